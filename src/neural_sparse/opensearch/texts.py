"""Texts that break tokenizers and shapes, for the parity run."""

from __future__ import annotations

AWKWARD_TEXTS: dict[str, str] = {
    "empty": "",
    "blank": " \t\n ",
    "one token": "cat",
    "one sentence": "Return a new sorted list from the items in iterable.",
    "repeated": "the the the THE The cat cat",
    "5,000 words": " ".join(f"word{number % 97} and more text" for number in range(1250)),
    "one word of 5,000 letters": "a" * 5000,
    "punctuation": ". .. ... .... !?;:,'\"()[]{}<>/\\|@#$%^&*-_=+`~",
    "numbers": "3.14159 1,000,000 1e-9 0x1F 2026-11-23 10:20",
    "Korean": "한국어 문서 검색 모델을 학습하는 방법",
    "Chinese and Japanese": "信息检索 情報検索 ひらがな カタカナ",
    "Arabic and Hebrew": "استرجاع المعلومات אחזור מידע",
    "accents": "Naïve café Ångström déjà-vu İstanbul ß ﬁ",
    "emoji": "🦊 👩‍👩‍👧‍👦 🇰🇷 👍🏽 ok",
    "control characters": "a\x00b\x01c\x1fd\x7fe\u200bf\ufefff\u202e g\ufffd",
    "special tokens as text": "[CLS] [SEP] [PAD] [UNK] [MASK] <s> </s> cat",
    "code": 'for (int i = 0; i < n; ++i) { s += "\\n$x`y`"; }',
}
