import csv
import json
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.cli import app as cli
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import FewShotTask, normalise, softmax
from jclip_adapter.evaluation import benchmark
from jclip_adapter.evaluation.benchmark_report import benchmark_figure
from jclip_adapter.evaluation.metrics import calibration_error
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.methods import available, create, get

CLASSES, WIDTH = 5, 16


def arrays(seed=0, permute_test=False):
    rng = np.random.default_rng(seed)
    centres = normalise(rng.standard_normal((CLASSES, WIDTH)))

    def rows(count):
        labels = np.repeat(np.arange(CLASSES), count)
        return normalise(centres[labels] + 0.3 * rng.standard_normal((len(labels), WIDTH))), labels

    (x1, y1), (x3, y3), (test_x, test_y), (val_x, val_y) = rows(1), rows(3), rows(8), rows(2)
    if permute_test:
        test_y = np.random.default_rng(9).permutation(test_y)
    text = normalise(centres + 0.4 * rng.standard_normal(centres.shape))
    return {
        "classnames": np.array([f"class {n}" for n in range(CLASSES)]),
        "text": text.astype(np.float16),
        "train1_x": x1.astype(np.float16),
        "train1_y": y1,
        "train3_x": x3.astype(np.float16),
        "train3_y": y3,
        "test_x": test_x.astype(np.float16),
        "test_y": test_y,
        "val_x": val_x.astype(np.float16),
        "val_y": val_y,
    }


EXTRA = {
    "extra_x": 3 * np.eye(2, WIDTH),
    "extra_y": np.array([1, 0]),
    "extra_modality": np.array(["audio", "audio"]),
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("toy.npz", **arrays())
    return tmp_path


def run(*flags, out="out.csv"):
    status = cli.main(["--benchmark", "--features", "toy.npz", "--out", out, *flags])
    assert status == 0
    with Path(out).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_feature_file_is_read_and_normalised(workplace):
    content = read_feature_file("toy.npz")
    assert sorted(content.tasks) == [1, 3]
    task = content.tasks[3]
    assert (task.num_classes, task.width, len(task.support_labels)) == (CLASSES, WIDTH, 15)
    np.testing.assert_allclose(np.linalg.norm(task.support_features, axis=1), 1, atol=1e-6)
    assert task.support_raw is None
    assert len(content.test.labels) == 40
    assert content.validation is not None


def test_rows_that_are_not_normalised_are_raw_features_too(workplace):
    facts = arrays()
    facts["train1_x"] = 7 * facts["train1_x"].astype(np.float32)
    np.savez("raw.npz", **facts)
    task = read_feature_file("raw.npz").tasks[1]
    assert task.support_raw is not None
    np.testing.assert_allclose(np.linalg.norm(task.support_raw, axis=1), 7, rtol=1e-2)


def test_further_modalities_reach_the_tasks(workplace, caplog):
    np.savez("heard.npz", **arrays(), **EXTRA, extra_scale=np.float32(42))
    for task in read_feature_file("heard.npz").tasks.values():
        features, labels = task.extra_rows()["audio"]
        np.testing.assert_allclose(features, np.eye(2, WIDTH))
        assert labels.tolist() == [1, 0]
        assert task.extra_scale == 42
    assert not caplog.records


def test_arrays_that_nothing_uses_are_reported(workplace, caplog):
    np.savez("odd.npz", **arrays(), extra_labels=np.zeros(2), notes=np.array("x"))
    read_feature_file("odd.npz")
    assert [record.getMessage() for record in caplog.records] == [
        "odd.npz: arrays that nothing uses: extra_labels, notes; Did you mean 'extra_y'?"
    ]


def test_classes_without_shots_have_no_further_rows_either():
    task = FewShotTask(np.eye(4, 8), np.arange(4), np.eye(4, 8), tuple("abcd"), **_further(np.arange(4)))
    assert benchmark.without_shots(task, 0.5).extra_labels.tolist() == [0, 1]


def _further(labels):
    return {
        "extra_features": np.eye(len(labels), 8),
        "extra_labels": labels,
        "extra_modalities": ["audio"] * len(labels),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, "no array 'text'"),
        ({"train1_y": None}, "no array 'train1_y'"),
        ({"train1_x": None, "train3_x": None}, "no training rows"),
        ({"test_y": np.zeros(3, int)}, "test_y has shape"),
        ({"test_y": np.full(40, 9)}, "test_y ranges from 9 to 9"),
        ({"train1_x": np.full((5, WIDTH), np.nan)}, "NaN"),
        ({"text": np.array([{}])}, "not a feature file"),
        ({"extra_x": np.eye(2, WIDTH)}, "extra_x alone"),
        ({"extra_scale": np.array(50.0)}, "extra_scale alone"),
        ({**EXTRA, "extra_y": np.array([0, CLASSES])}, "extra_y ranges from 0 to 5"),
        ({**EXTRA, "extra_y": np.array([0])}, "expected 2 extra labels"),
        ({**EXTRA, "extra_x": np.eye(2, WIDTH + 1)}, "extra_features has width"),
        ({**EXTRA, "extra_x": np.zeros((2, WIDTH))}, "extra_x has rows of zeros"),
        ({**EXTRA, "extra_modality": np.array(["audio"])}, "1 names for 2 rows"),
        ({**EXTRA, "extra_modality": np.array([1, 2])}, "expected names"),
        ({**EXTRA, "extra_modality": np.array(["audio", "sonar"])}, "unknown modality 'sonar'"),
        ({**EXTRA, "extra_scale": np.array(-1.0)}, "extra_scale: expected one positive number"),
    ],
)
def test_faulty_files_are_told(workplace, change, message):
    facts = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    np.savez("bad.npz", **facts)
    with pytest.raises(DataError, match=message) as caught:
        read_feature_file("bad.npz")
    assert "bad.npz" in str(caught.value)


def test_a_row_per_cell_with_the_columns_of_the_contract(workplace):
    rows = run("--method", "zero-shot,linear-probe", "--shots", "1,3", "--seed", "1,2", "--resample")
    assert list(rows[0]) == list(benchmark.COLUMNS)
    assert len(rows) == 2 * 2 * 2
    assert {row["dataset"] for row in rows} == {"toy"}
    assert json.loads(rows[-1]["hyperparameters"]).keys() >= {"c"}
    assert all(0 <= float(row["top1"]) <= float(row["top5"]) <= 100 for row in rows)
    assert all(0 <= float(row["ece"]) <= 100 for row in rows)
    assert (workplace / "out.md").read_text().startswith("### Inductive methods")
    assert (workplace / "out.png").read_bytes()[:4] == b"\x89PNG"


def test_all_shots_of_the_file_and_the_metric_itself(workplace):
    rows = run("--method", "zero-shot")
    assert [row["shots"] for row in rows] == ["1", "3"]
    facts = arrays()
    scores = normalise(facts["test_x"]) @ normalise(facts["text"]).T
    top1 = 100 * (scores.argmax(axis=1) == facts["test_y"]).mean()
    assert float(rows[0]["top1"]) == pytest.approx(top1, abs=1e-3)


def test_a_finished_benchmark_computes_nothing(workplace, monkeypatch):
    first = run("--method", "linear-probe", "--shots", "1")
    monkeypatch.setattr(benchmark, "run_cell", lambda *_: pytest.fail("computed again"))
    assert run("--method", "linear-probe", "--shots", "1") == first


def test_another_file_or_value_is_another_cell(workplace, monkeypatch):
    run("--method", "linear-probe", "--shots", "1")
    calls = []
    real = benchmark.run_cell
    monkeypatch.setattr(benchmark, "run_cell", lambda *facts: calls.append(facts) or real(*facts))
    run("--method", "linear-probe", "--shots", "1", "--set", "c=1")
    np.savez("toy.npz", **arrays(seed=5))
    run("--method", "linear-probe", "--shots", "1")
    assert len(calls) == 2


# The methods through CLIP need photos: tests/cli/test_pipeline_through_clip.py asks them the same.
@pytest.mark.parametrize("name", [name for name in available() if "encoder" not in get(name).meta.needs])
def test_test_labels_change_no_choice_and_no_score(name, workplace):
    """The labels reach the scorer alone: with others, hyper-parameters and logits are the same."""
    from jclip_adapter.evaluation.selection import select
    from jclip_adapter.methods import create, get

    if "auxiliary" in get(name).meta.needs:
        facts = {**arrays(), "train3_aux": np.random.default_rng(0).random((15, 8)), "test_aux": np.ones((40, 8))}
    else:
        facts = arrays()
    outcomes = []
    for permuted in (False, True):
        mixed = {**facts, "test_y": arrays(permute_test=permuted)["test_y"]}
        np.savez("mixed.npz", **mixed)
        content = read_feature_file("mixed.npz")
        few = {key: 2 for key in ("epochs", "iterations") if key in get(name).Hyper.__dataclass_fields__}
        choice = select(name, content.tasks[3], seed=1, given=few)
        method = create(name, seed=1, **choice.values).fit(content.tasks[3])
        outcomes.append((choice.values, method.logits(content.test.queries)))
    assert outcomes[0][0] == outcomes[1][0]
    np.testing.assert_array_equal(outcomes[0][1], outcomes[1][1])


def test_validation_only_where_there_is_some(workplace):
    facts = arrays()
    del facts["val_x"], facts["val_y"]
    np.savez("toy.npz", **facts)
    assert cli.main(["--benchmark", "--features", "toy.npz", "--select", "validation"]) == 2


def test_shots_that_the_file_lacks_are_told(workplace, capsys):
    assert cli.main(["--benchmark", "--features", "toy.npz", "--shots", "7"]) == 2
    assert "It has tasks with 1, 3 shots." in capsys.readouterr().err


def test_resampled_shots_differ_by_seed_and_come_from_the_file(workplace):
    facts = arrays()
    content = read_feature_file("toy.npz")
    problems = benchmark.feature_problems(["toy.npz"], [1], [1, 2], resample=True)
    drawn = [problem.task for problem in problems]
    pool = normalise(facts["train3_x"])
    for task in drawn:
        assert task.support_labels.tolist() == list(range(CLASSES))
        for row, label in zip(task.support_features, task.support_labels, strict=True):
            assert np.abs(pool[facts["train3_y"] == label] - row).max(axis=1).min() < 1e-6
    assert not np.array_equal(drawn[0].support_features, drawn[1].support_features)
    as_given = [problem for seed in (1, 2) for problem in benchmark.feature_problems(["toy.npz"], [1], [seed])]
    for problem in as_given:
        np.testing.assert_array_equal(problem.task.support_features, content.tasks[1].support_features)
    assert {problem.fingerprint for problem in problems}.isdisjoint(problem.fingerprint for problem in as_given)


def test_classes_without_shots_are_told_apart(workplace):
    rows = run("--method", "zero-shot,linear-probe", "--shots", "3", "--unseen", "0.5")
    assert list(rows[0]) == [*benchmark.COLUMNS, "unseen", "protocol", "base", "new", "harmonic"]
    zero_shot, probe = ({key: float(row[key]) for key in ("base", "new", "harmonic")} for row in rows)
    if rows[0]["method"] == "linear-probe":
        zero_shot, probe = probe, zero_shot
    assert probe["base"] > zero_shot["base"]
    assert probe["new"] >= zero_shot["new"] / 2
    base, new = zero_shot["base"], zero_shot["new"]
    assert zero_shot["harmonic"] == pytest.approx(2 * base * new / (base + new), abs=1e-3)
    header = (workplace / "out.md").read_text().splitlines()[2]
    assert "toy, 3-shot, base" in header
    assert "toy, 3-shot, H" in header


def test_several_shares_of_classes_without_shots(workplace):
    rows = run("--method", "zero-shot,gda", "--shots", "1,3", "--unseen", "0.2,0.6")
    assert [(row["unseen"], row["shots"]) for row in rows[::2]] == [
        ("0.2", "1"),
        ("0.2", "3"),
        ("0.6", "1"),
        ("0.6", "3"),
    ]
    for share, base in (("0.2", 4), ("0.6", 2)):
        alone = run("--method", "zero-shot", "--shots", "3", "--unseen", share, out="alone.csv")[0]
        row = next(row for row in rows if (row["unseen"], row["shots"], row["method"]) == (share, "3", "zero-shot"))
        assert {key: row[key] for key in ("base", "new")} == {key: alone[key] for key in ("base", "new")}
        scores = normalise(arrays()["test_x"]) @ normalise(arrays()["text"]).T
        right = scores.argmax(axis=1) == arrays()["test_y"]
        assert float(row["base"]) == pytest.approx(100 * right[: 8 * base].mean(), abs=1e-3)
    text = (workplace / "out.md").read_text()
    assert text.index("methods, 20 % of the classes without shots") < text.index("methods, 60 % of the classes without")
    assert text.count("toy, 3-shot, new") == 2


def test_base_and_new_over_the_share_are_drawn():
    facts = {"dataset": "toy", "shots": 3, "seed": 1, "transductive": False}
    cells = [
        {**facts, "method": method, "unseen": share, "base": 80.0 + share, "new": 70.0 - share, "harmonic": 75.0}
        for method in ("zero-shot", "gda")
        for share in (0.2, 0.5)
    ]
    axes = benchmark_figure(cells).axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert lines["gda, base"] == [[20, 80.2], [50, 80.5]]
    assert lines["zero-shot, new"] == [[20, 69.8], [50, 69.5]]


def test_base_to_new_lets_each_half_compete_within_itself(workplace):
    rows = run("--method", "zero-shot,multimodal-adapter", "--shots", "3", "--protocol", "base-to-new")
    found = {row["method"]: row for row in rows}
    facts = arrays()
    features, text, labels = normalise(facts["test_x"]), normalise(facts["text"]), facts["test_y"]
    base, new = (
        100
        * (
            classes[(features[np.isin(labels, classes)] @ text[classes].T).argmax(axis=1)]
            == labels[np.isin(labels, classes)]
        ).mean()
        for classes in (np.arange(3), np.arange(3, 5))
    )
    row = found["zero-shot"]
    assert (row["protocol"], row["unseen"]) == ("base-to-new", "0.5")
    expected = {
        "base": base,
        "new": new,
        "harmonic": 2 * base * new / (base + new),
        "difference": base - new,
        "top1": 100 * ((features @ text.T).argmax(axis=1) == labels).mean(),
    }
    for key, value in expected.items():
        assert float(row[key]) == pytest.approx(value, abs=1e-3), key
    content = read_feature_file("toy.npz")
    task = benchmark.without_shots(content.tasks[3], 0.5)
    values = json.loads(found["multimodal-adapter"]["hyperparameters"])
    method = create("multimodal-adapter", seed=1, **values).fit(task)
    among = method.logits_among(content.test.queries, np.arange(3, 5))[labels >= 3]
    assert float(found["multimodal-adapter"]["new"]) == pytest.approx(
        100 * (among.argmax(axis=1) + 3 == labels[labels >= 3]).mean(), abs=1e-3
    )
    text = (workplace / "out.md").read_text()
    assert "toy, 3-shot, difference | toy, 3-shot, all" in " ".join(text.splitlines()[2].split())
    assert "each group competes within itself" in text


def test_validation_photos_of_classes_without_shots_are_removed(workplace):
    task = benchmark.feature_problems(["toy.npz"], [3], [1])[0].task
    assert sorted(set(benchmark.without_shots(task, 0.4).validation.labels.tolist())) == [0, 1, 2]


def test_a_protocol_alone_means_half_of_the_classes(workplace):
    found = []
    for flags in (("--protocol", "generalised"), ("--unseen", "0.5")):
        base = ("--benchmark", "--features", "toy.npz", "--method", "zero-shot", "--out", "out.csv")
        assert cli.main([*base, *flags]) == 0
        rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
        found.append([(row["unseen"], row["protocol"], row["base"], row["new"]) for row in rows])
    assert found[0] == found[1]
    assert {row[0] for row in found[0]} == {"0.5"}


@pytest.mark.parametrize("share", ["1", "-0.1", "0.5,1", "0.5,0.5"])
def test_no_share_of_the_classes(workplace, share, capsys):
    assert cli.main(["--benchmark", "--features", "toy.npz", "--unseen", share]) == 2
    assert capsys.readouterr().err.startswith(("error: --unseen: expected at ", "error: --unseen: 0.5 is given twice"))


def test_all_is_what_each_file_allows(workplace, caplog):
    facts = arrays()
    for key in ("train1", "train3", "test"):
        facts[f"{key}_aux"] = np.random.default_rng(0).random((len(facts[f"{key}_x"]), 6))
    np.savez("pair.npz", **facts)
    problems = benchmark.feature_problems(["toy.npz", "pair.npz"], [1], [1])
    methods = benchmark.choose_methods("all")
    jobs = benchmark.plan_cells(problems, methods, {}, "none")
    chosen = [{name for problem, name in jobs if problem.dataset == dataset} for dataset in ("toy", "pair")]
    assert chosen[1] - chosen[0] == {"amu-tuning", "two-views"}
    assert "toy: amu-tuning is skipped: amu-tuning needs a second network's features. Give --auxiliary" in caplog.text
    with pytest.raises(UsageError, match="no method can run"):
        benchmark.run_benchmark(problems[:1], "amu-tuning", workplace, selection="none", given={})


def test_methods_through_clip_are_a_word_of_their_own(workplace):
    """ "all" would take hours with them, and feature files have no CLIP."""
    everything, through = benchmark.choose_methods("all"), benchmark.choose_methods("encoder")
    assert {"coop", "clip-lora", "full"} <= set(through)
    assert not set(everything) & set(through)
    assert benchmark.choose_methods("encoder,all,coop") == [*through, *everything]


def test_probabilities_are_calibrated_on_held_out_shots(workplace):
    """proker's raw scores are near each other: uncalibrated, its confidence is near one of five."""
    (row,) = run("--method", "proker", "--shots", "3", "--select", "none")
    cell = json.loads(next(Path("results/cells").glob("*-proker-*.json")).read_text())
    assert cell["calibrated_on"] == "15 photos: held-out shots"
    content = read_feature_file("toy.npz")
    logits = create("proker", seed=1).fit(content.tasks[3]).logits(content.test.queries)
    before, after = (
        100 * calibration_error(softmax(logits / value), content.test.labels) for value in (1.0, cell["temperature"])
    )
    assert float(row["ece"]) == pytest.approx(after, abs=1e-3)
    assert after < before / 1.5


def test_the_tasks_of_few_classes_have_a_calibration_error_too(workplace):
    (row,) = run("--method", "gda", "--shots", "3", "--tasks", "4", "--queries", "6", "--effective-classes", "2")
    assert 0 <= float(row["ece"]) <= 100
