"""How words are cut, folded and left out in each language, and which language a collection is in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import Stemmer
from bm25s.stopwords import STOPWORDS_EN

from neural_sparse.config import AUTO, LANGUAGES, check_language
from neural_sparse.errors import InputError, refuse_one_string

# Runs of letters and digits. Single Latin letters are what is left of "it's" and "e.g."; single digits and
# single letters of other scripts carry meaning. "_" separates, so that identifiers are found by their parts.
WORD = r"(?u)[^\W_][^\W_]+|[^\W_a-zA-Z]"
# Vowel signs and accents that Python counts to no word: Hebrew, Arabic, the scripts of India.
_MARKED = r"(?u)(?:(?!_)[\w\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0dff]){2,}|[^\W_a-zA-Z]"
_MARKED_LANGUAGES = ("arabic", "hindi", "nepali", "persian", "tamil", "yiddish")
_HANGUL = r"\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
_KANA = r"\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
# Thai, Lao, Burmese and Khmer put no spaces between words either.
_UNSPACED = _HANGUL + _KANA + _HAN + r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
# Lucene's CJKBigramFilter: overlapping pairs of letters, a letter that stands alone by itself; other words whole.
# All of it is a look-ahead, so that a pair begins at each letter.
BIGRAMS = (
    rf"(?u)(?=([{_UNSPACED}]{{2}}|(?<![{_UNSPACED}])[{_UNSPACED}](?![{_UNSPACED}])"
    rf"|(?<![^\W_{_UNSPACED}])(?:[^\W_{_UNSPACED}]{{2,}}|[^\W_a-zA-Z{_UNSPACED}])))"
)
_SEGMENTED = r"\S+"
NOT_HANGUL = re.compile(rf"(?u)[^\W_{_HANGUL}]{{2,}}|[^\W_a-zA-Z{_HANGUL}]")
# Lists of bm25s; it has one for Korean words as they are written, which bigrams and morphemes have no use for.
_STOPWORDS = {"english": "english_plus"} | {
    name: name
    for name in (
        "danish",
        "dutch",
        "french",
        "german",
        "italian",
        "norwegian",
        "portuguese",
        "russian",
        "spanish",
        "swedish",
        "turkish",
    )
}
_SPACELESS = ("chinese", "japanese", "thai")

SAMPLE = 200  # documents that a collection's language is told by
_READ = 250  # characters of each
_ENOUGH = 1000  # letters of the sample; of less, only a script can be told
_SHARE = 0.6  # of the sample, that has to be in one language
_ENGLISH_SHARE = 0.1  # of the words are among the 33 most frequent ones: then no other language is thought of


@dataclass(frozen=True)
class Analysis:
    """How texts become words.

    Attributes:
        language: as of `LANGUAGES`.
        stemmer: a Snowball algorithm, or None.
        stopwords: a list of bm25s by its name, or None.
        pattern: regular expression of a word.
        segmenter: "korean": words are morphemes, by kiwipiepy; None.
    """

    language: str
    stemmer: str | None = None
    stopwords: str | None = None
    pattern: str = WORD
    segmenter: str | None = None

    @classmethod
    def of(cls, language: str, texts: Sequence[str] = ()) -> Analysis:
        """The analysis of a language; "auto" is told from `texts`.

        Raises:
            InputError: an unknown language, or one that an older PyStemmer has no stemmer for.

        >>> Analysis.of("german").stemmer, Analysis.of("de").stopwords
        ('german', 'german')
        >>> Analysis.of("auto", ["서울에서 부산까지 가는 길은 멀다."] * 3).language
        'bigrams'
        """
        language = check_language(language)
        if language == AUTO:
            language = language_of_collection(texts)
        if language == "plain":
            return cls(language)
        if language == "korean":
            return cls(language, pattern=_SEGMENTED, segmenter=language)
        if language == "bigrams" or language in _SPACELESS:
            return cls(language, pattern=BIGRAMS)
        if language not in Stemmer.algorithms():
            raise InputError(
                f"language {language}: this PyStemmer has no stemmer for it; pip install -U PyStemmer"
            )
        pattern = _MARKED if language in _MARKED_LANGUAGES else WORD
        return cls(language, language, _STOPWORDS.get(language), pattern)


def language_of_collection(texts: Sequence[str]) -> str:
    """The language that most of a sample of the texts are in, by name; "english" if none is.

    Korean is "bigrams", which needs nothing that is not installed. Scripts are told by their letters; languages of
    one script by py3langid, but only if there is text enough and it does not look English.

    >>> language_of_collection(["The cat sat on the mat."])
    'english'
    """
    refuse_one_string(texts)
    step = max(1, len(texts) // SAMPLE)
    sample = [str(texts[row])[:_READ].lower() for row in range(0, len(texts), step)][:SAMPLE]
    whole = " ".join(sample)
    letters = max(1, len(re.findall(r"[^\W\d_]", whole)))

    def share(characters: str) -> float:
        return len(re.findall(rf"[{characters}]", whole)) / letters

    if share(_HANGUL) > 0.5:
        return "bigrams"
    if share(_KANA + _HAN) > 0.5:
        return "japanese" if share(_KANA) > 0.1 else "chinese"
    if share(r"\u0e00-\u0e7f") > 0.5:
        return "thai"
    words = re.findall(WORD, whole)
    if letters < _ENOUGH or sum(word in _ENGLISH for word in words) > _ENGLISH_SHARE * len(words):
        return "english"
    import py3langid  # its model takes a second to load

    codes = Counter(str(py3langid.classify(text)[0]) for text in sample)
    code, often = codes.most_common(1)[0]
    name = {"nb": "norwegian", "nn": "norwegian"}.get(code) or _NAMES.get(code, "english")
    known = name in Stemmer.algorithms()
    return name if known and often > _SHARE * len(sample) else "english"


_ENGLISH = frozenset(STOPWORDS_EN)
_NAMES = {code: name for name, code in LANGUAGES.items() if code}
