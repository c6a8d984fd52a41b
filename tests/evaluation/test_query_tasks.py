import csv
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.cli import app as cli
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import normalise
from jclip_adapter.evaluation.query_tasks import QueryTasks
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.methods import create

LABELS = np.repeat(np.arange(20), 30)


def test_a_task_has_queries_of_its_classes_alone():
    tasks = QueryTasks(40, 25, 2, 4)
    counts = set()
    for pooled, same_size, resampled in tasks.draw(LABELS, 1):
        assert same_size.tolist() == pooled[: len(resampled)].tolist()
        classes = set(LABELS[pooled])
        counts.add(len(classes))
        assert len(set(pooled)) == len(pooled) == 25
        assert set(LABELS[resampled]) <= classes
        assert len(set(resampled)) == len(resampled) > 0
    assert counts == {2, 3, 4}


def test_all_photos_of_the_classes_are_taken_where_they_do_not_suffice():
    for pooled, *_ in QueryTasks(5, 75, 2, 2).draw(LABELS, 1):
        assert np.bincount(LABELS[pooled], minlength=20).tolist().count(30) == 2


def test_drawn_class_shares_differ_more_than_those_of_the_photos():
    """The variance of the count of one of k classes: Dirichlet-multinomial, against nearly equal counts."""
    pooled, resampled = [], []
    for drawn in QueryTasks(300, 20, 4, 4).draw(LABELS, 3):
        classes = np.unique(LABELS[drawn.pooled])
        for rows, shares in ((drawn.pooled, pooled), (drawn.resampled, resampled)):
            shares.extend(np.bincount(LABELS[rows], minlength=20)[classes] / len(rows))
    # With α = 2 and k = 4 classes: p(1 − p)·(1/n + (1 − 1/n)/(kα + 1)) with p = 1/4, slightly less where it is cut.
    expected = 0.25 * 0.75 * (1 / 20 + 19 / 20 / 9)
    assert np.var(resampled) == pytest.approx(expected, rel=0.15)
    assert np.var(pooled) < 0.6 * expected


def test_same_seed_same_tasks():
    tasks = QueryTasks(3, 10, 2, 3)
    first, again, other = (np.concatenate(sum(tasks.draw(LABELS, seed), ())) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_more_classes_than_there_are_is_refused():
    with pytest.raises(UsageError, match="there are queries of 20 classes"):
        list(QueryTasks(2, most=21).draw(LABELS, 0))


@pytest.fixture
def features(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    centres = normalise(rng.standard_normal((8, 16)))
    labels = np.repeat(np.arange(8), 12)
    rows = normalise(centres[labels] + 0.25 * rng.standard_normal((len(labels), 16)))
    text = normalise(centres + 0.25 * rng.standard_normal(centres.shape))
    np.savez(
        "toy.npz",
        classnames=np.array(list("abcdefgh")),
        text=text,
        train2_x=rows[::6],
        train2_y=labels[::6],
        test_x=rows,
        test_y=labels,
    )
    return "toy.npz"


def run(*flags):
    return cli.main(["--benchmark", "--features", "toy.npz", "--out", "out.csv", "--shots", "0", *flags])


def test_the_benchmark_scores_each_task_by_itself(features):
    assert run("--method", "zero-shot,em-dirichlet", "--tasks", "5", "--queries", "20", "--effective-classes", "2") == 0
    rows = {row["method"]: row for row in csv.DictReader(Path("out.csv").read_text().splitlines())}
    content = read_feature_file(features)
    queries, labels = content.test.queries, content.test.labels
    task = content.tasks[2].keep(np.zeros(16, dtype=bool))
    for name, row in rows.items():
        method = create(name).fit(task)
        found = [[], [], []]
        sizes = []
        for drawn in QueryTasks(5, 20, 2, 2).draw(labels, 1):
            sizes.append(len(drawn.resampled))
            for values, chosen in zip(found, drawn, strict=True):
                values.append(100 * np.mean(method.logits(queries[chosen]).argmax(axis=1) == labels[chosen]))
        assert float(row["top1"]) == pytest.approx(np.mean(found[0]), abs=1e-3)
        assert float(row["top1_interval"]) == pytest.approx(2.776445 * np.std(found[0], ddof=1) / np.sqrt(5), abs=1e-3)
        assert float(row["same_size"]) == pytest.approx(np.mean(found[1]), abs=1e-3)
        assert float(row["resampled"]) == pytest.approx(np.mean(found[2]), abs=1e-3)
        assert float(row["resampled_queries"]) == pytest.approx(np.mean(sizes), abs=1e-3)
        assert (row["tasks"], row["effective_classes"]) == ("5", "2")
    text = Path("out.md").read_text()
    assert "can flatter a method that balances" in text
    assert "toy, 0-shot, drawn shares" in text


def test_other_tasks_are_another_cell(features):
    for flags in (("--tasks", "4"), ("--tasks", "5"), ("--tasks", "4", "--queries", "9"), ()):
        assert run("--method", "zero-shot", "--effective-classes", "2", *flags) == (0 if flags else 2)
    assert len(list(Path("results/cells").glob("*.json"))) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--queries", "9"), "--queries has no effect without --tasks"),
        (("--effective-classes", "3"), "--effective-classes has no effect without --tasks"),
        (("--tasks", "1"), "--tasks: expected at least 2"),
        (("--tasks", "3"), "--effective-classes 3-10: there are queries of 8 classes"),
        (
            ("--tasks", "3", "--shots", "2", "--unseen", "0.5"),
            "--unseen and --protocol cannot be combined with --tasks",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(features, flags, message, capsys):
    assert run("--method", "zero-shot", *flags) == 2
    assert message in capsys.readouterr().err
