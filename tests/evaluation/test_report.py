import io

import numpy as np
import pytest
from PIL import Image

from jclip_adapter.evaluation import report
from jclip_adapter.evaluation.benchmark_report import benchmark_figure, benchmark_picture, benchmark_table
from jclip_adapter.evaluation.metrics import by_domain
from jclip_adapter.evaluation.report import (
    NAMED,
    WORST,
    confusion_picture,
    markdown_table,
    reliability_picture,
    score_table,
    training_curves,
)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_curves_are_a_picture_and_the_same_each_time():
    history = [{"epoch": 1, "loss": 2.0, "top1": 10.0}, {"epoch": 2, "loss": 1.0, "top1": 50.0}]
    data = training_curves(history, "test")
    assert opened(data).width > 300
    assert data == training_curves(history, "test")
    assert data != training_curves(history[:1], "test")


def test_the_loss_per_step_is_one_more_plot():
    history = [{"epoch": 1, "loss": 2.0, "top1": 10.0}]
    two, three = training_curves(history, "test"), training_curves(history, "test", [3.0, 1.0])
    assert (opened(two).width, opened(three).width) == (880, 1320)
    assert three != training_curves(history, "test", [3.0, 2.0])


FOUR = (("cat", "dog", "emu", "fox"), ("a", "a", "b", "b"))


def test_confusion_shows_the_matrix():
    diagonal = opened(confusion_picture(np.eye(4, dtype=np.int64) * 3, *FOUR))
    other = opened(confusion_picture(np.ones((4, 4), dtype=np.int64), *FOUR))
    assert np.asarray(diagonal).mean() > np.asarray(other).mean()


def test_a_class_without_photos_is_no_division_by_zero():
    assert opened(confusion_picture(np.zeros((2, 2), dtype=np.int64), ["a", "b"], ["", ""])).height > 100


def labels_of(monkeypatch, confusion, names):
    """The class names on the axes, rows and columns."""
    figures = []
    monkeypatch.setattr(report, "png", lambda figure: figures.append(figure) or b"")
    confusion_picture(confusion, names, [""] * len(names))
    axes = figures[0].axes[0]
    rows, columns = ([tick.get_text() for tick in ticks] for ticks in (axes.get_yticklabels(), axes.get_xticklabels()))
    assert rows == columns
    return rows


def test_confusion_names_the_classes(monkeypatch):
    names = ["cat", "$x^2$", "a" * 40]
    assert labels_of(monkeypatch, np.eye(3, dtype=np.int64), names) == ["cat", "$x^2$", "a" * 25 + "…"]
    assert len(labels_of(monkeypatch, np.eye(NAMED, dtype=np.int64), [f"c{n}" for n in range(NAMED)])) == NAMED


def test_of_many_classes_the_most_confused_are_drawn(monkeypatch):
    confusion = np.eye(NAMED + 1, dtype=np.int64) * 9
    for place in range(WORST // 2):
        confusion[40 - place, 2 * place] = place + 1  # a mistake of one class for another
    wrong = sorted({40 - place for place in range(10)} | {2 * place for place in range(10)})
    assert len(wrong) == WORST
    assert labels_of(monkeypatch, confusion, [str(n) for n in range(NAMED + 1)]) == [str(n) for n in wrong]


def test_names_without_a_font_are_numbers_and_no_warning_is_given(monkeypatch, recwarn):
    monkeypatch.setattr(report, "_CHINESE_FONTS", frozenset())
    assert labels_of(monkeypatch, np.eye(3, dtype=np.int64), ["chat noir é", "猫", "a\nb"]) == [
        "chat noir é",
        "2",
        "a\\nb",
    ]
    confusion_picture(np.eye(2, dtype=np.int64), ["猫", "b"], ["", ""])
    assert not [w for w in recwarn if "lyph" in str(w.message)]


def test_tables_line_up():
    lines = markdown_table(["method", "top-1"], [["zero-shot", "58.0 %"], ["a", "9.0 %"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "|-----------|-------:|"


def test_scores_stand_beside_zero_shots():
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scores = by_domain(logits, [0, 0, 1], ("x", "y"))
    baseline = by_domain(-logits, [0, 0, 1], ("x", "y"))
    table = score_table(scores, baseline, "mine")
    total = table.splitlines()[-1]
    assert [cell.strip() for cell in total.split("|")[1:5]] == ["total", "3", "0.0 %", "100.0 %"]


def cell(method, top1, *, seed=1, transductive=False, dataset="toy", **further):
    facts = {"dataset": dataset, "method": method, "shots": 4, "seed": seed, "top1": top1, "fit_seconds": 0.1}
    return {**facts, "transductive": transductive, **further}


def test_benchmark_tables_have_intervals_and_keep_transductive_methods_apart():
    cells = [cell("zero-shot", 60.0), cell("gda", 60.0), cell("gda", 80.0, seed=2), cell("gda", 70.0, seed=3)]
    table = benchmark_table([*cells, cell("transclip", 65.0, transductive=True)])
    inductive, transductive = table.split("### Transductive methods")
    # t(0.975; 2) = 4.302653, deviation 10, √3
    assert "70.0 ± 24.8" in inductive
    assert "transclip" not in inductive
    assert "transclip" in transductive
    assert "gda" not in transductive


def test_the_calibration_error_stands_beside_top1():
    cells = [cell("gda", 60.0, ece=2.0), cell("gda", 70.0, seed=2, ece=4.0), cell("ape", 65.0)]  # ape: an older cell
    header, _, ape, gda = benchmark_table(cells).splitlines()[2:6]
    assert [word.strip() for word in header.split("|")[1:4]] == ["method", "toy, 4-shot", "toy, 4-shot, ECE"]
    assert gda.split("|")[3].strip().startswith("3.0 ±")
    assert ape.split("|")[3].strip() == "–"
    assert "ECE: expected calibration error" in benchmark_table(cells)
    assert "ECE" not in benchmark_table([cell("ape", 65.0)])


def test_a_reliability_diagram_is_a_picture_and_the_same_each_time():
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    data = reliability_picture(shares, np.arange(60) % 3, "test")
    assert opened(data).width > 300
    assert data == reliability_picture(shares, np.arange(60) % 3, "test")
    assert data != reliability_picture(shares, (np.arange(60) + 1) % 3, "test")


def test_what_a_method_was_not_run_on_is_a_dash():
    table = benchmark_table([cell("gda", 60.0), cell("gda", 70.0, dataset="other"), cell("ape", 65.0)])
    assert [word.strip() for word in table.splitlines()[4].split("|")[1:4]] == ["ape", "–", "65.0"]


def test_the_benchmark_is_a_picture_and_the_same_each_time():
    cells = [cell("zero-shot", 60.0), cell("gda", 70.0), cell("linear-probe", 20.0)]
    assert opened(benchmark_picture(cells)).width > 300
    assert benchmark_picture(cells) == benchmark_picture(cells)


@pytest.mark.parametrize(
    "top1", [{"zero-shot": 60.0, "gda": 70.0, "linear-probe": 3.0}, {"zero-shot": 60.0, "gda": 58.0}, {"gda": 1.0}]
)
def test_no_method_is_cut_off_its_axis(top1):
    """A linear probe at one shot lies far below the others; its marker is still in the picture, and readable."""
    cells = [cell(name, value + seed, seed=seed) for name, value in top1.items() for seed in (0, 1)]
    figure = benchmark_figure(cells)
    figure.draw_without_rendering()
    assert figure.axes
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    for line in axes.get_lines():
        assert all(low <= value <= high for value in line.get_xdata())
    labels = {text.get_text() for text in axes.texts}
    assert labels == {f"{value + 0.5:.1f}" for value in top1.values()}


def rows(figure):
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_methods_are_sorted_within_their_kind():
    top1 = {"gda": 70.0, "ape": 72.0, "jclip-adapter": 71.0, "transclip": 74.0, "clip-lora": 73.0, "zero-shot": 60.0}
    figure = benchmark_figure([cell(name, value) for name, value in top1.items()])
    assert rows(figure) == [
        "zero-shot",
        *("training-free", "ape", "gda"),
        *("trained on features", "jclip-adapter"),
        *("trained through CLIP", "clip-lora"),
        *("transductive", "transclip"),
    ]


def bars(figure):
    return [tuple(line.get_xdata()) for line in figure.axes[0].get_lines() if line.get_linewidth() == 2]


def test_bars_are_intervals_over_seeds_or_over_the_queries_of_one():
    (bar,) = bars(benchmark_figure([cell("gda", value, seed=seed) for seed, value in enumerate((60.0, 70.0, 80.0))]))
    assert bar == pytest.approx((70 - 24.8414, 70 + 24.8414), abs=1e-3)  # t(0.975; 2) = 4.302653, deviation 10, √3
    (bar,) = bars(benchmark_figure([cell("gda", 80.0, queries=10)]))
    assert bar == pytest.approx((49.016, 94.332), abs=1e-2)  # Wilson's interval of 8 of 10
    (bar,) = bars(benchmark_figure([cell("gda", 80.0)]))
    assert bar == (80.0, 80.0)


def test_a_domain_without_a_name_has_no_row():
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert [score.domain for score in by_domain(logits, [0, 0, 1], ("", ""))] == ["total"]
    assert [score.domain for score in by_domain(logits, [0, 0, 1], ("x", ""))] == ["x", "total"]


def test_plus_or_minus_says_of_what():
    several = benchmark_table([cell("gda", 60.0, seed=seed) for seed in (1, 2, 3)])
    assert several.endswith("mean over 3 seeds ± half-width of its 95 % confidence interval (Student's t).")
    one = benchmark_table([cell("gda", 60.0)])
    assert "±" not in one
    assert one.endswith("one draw of the shots.")


def test_curves_of_a_training_in_two_parts() -> None:
    """Epochs of dac's first part have a loss of its own, and neither "loss" nor "top1"."""
    first = [{"epoch": 1, "contrastive_loss": 2.0}, {"epoch": 2, "contrastive_loss": 1.5}]
    second = [{"epoch": 1, "loss": 1.0, "top1": 40.0}, {"epoch": 2, "loss": 0.5, "top1": 60.0}]
    widths = [Image.open(io.BytesIO(training_curves(part, "dac"))).width for part in (first, second, first + second)]
    assert widths == [440, 880, 1320]
