"""What a run says where there is no terminal."""

import logging

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from neural_sparse.training.monitor import ProgressBar


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 2), (1e9, 0)])
def test_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture, tmp_path: str, seconds: float, lines: int
) -> None:
    args, control = TrainingArguments(output_dir=str(tmp_path), report_to="none"), TrainerControl()
    state = TrainerState(max_steps=10, global_step=2)
    bar = ProgressBar(seconds)
    with caplog.at_level(logging.INFO):
        bar.on_train_begin(args, state, control)
        for step in (4, 6):
            state.global_step = step
            bar.on_step_end(args, state, control)
            bar.on_log(args, state, control, logs={"loss": 0.25, "nonzero_terms": 80.0})
        bar.on_log(args, state, control, logs={"eval_dev": 0.5})
        bar.on_train_end(args, state, control)
    said = [record.message for record in caplog.records]
    assert len(said) == lines
    assert all("of 10" in line and "loss 0.25" in line and "terms/doc 80" in line for line in said)


def test_estimates_are_shown_as_such(caplog: pytest.LogCaptureFixture, tmp_path: str) -> None:
    args, control = TrainingArguments(output_dir=str(tmp_path), report_to="none"), TrainerControl()
    bar, state = ProgressBar(0.0, estimated=True), TrainerState(max_steps=10, global_step=2)
    with caplog.at_level(logging.INFO):
        bar.on_train_begin(args, state, control)
        bar.on_log(
            args, state, control, logs={"loss": 0.25, "ranking": 0.125, "flops": 1.5, "nonzero_terms": 80.0}
        )
    assert caplog.records[-1].message.endswith("loss 0.25, rank 0.125, flops ~1.5, terms/doc ~80")
