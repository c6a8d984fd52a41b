"""Features in parts are classified as in memory; a stopped prediction goes on; another one's tables are replaced."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jclip_adapter.core.calibration import Calibration
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import Queries, normalise
from jclip_adapter.data.parts import MANIFEST, part_paths
from jclip_adapter.evaluation import streaming
from jclip_adapter.evaluation.metrics import top_k_ids
from jclip_adapter.evaluation.streaming import SUMMARY, Classifier, classify_parts
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.features.parts.files import Plan, finish, write_part
from jclip_adapter.methods import create
from jclip_adapter.runtime import row_loops
from tests.tiny_features import write_features

ROWS, PARTS, BROKEN = 30, 3, 17


@pytest.fixture
def task(tmp_path):
    return read_feature_file(write_features(tmp_path / "shots.npz")).tasks[3]


@pytest.fixture
def classifier(task):
    method = create("zero-shot").fit(task)
    method.calibration_ = Calibration(temperature=1.7, source="a test", known=np.linspace(-0.3, -1e-6, 60))
    return Classifier(method, task.class_names, 2, reject=0.3)


@pytest.fixture
def features(tmp_path, classifier):
    """A folder of features in three parts, of which one photo could not be read; and all of them."""
    folder = tmp_path / "features"
    rows = np.random.default_rng(3).standard_normal((ROWS * PARTS, classifier.method.width_)).astype(np.float32)
    rows[BROKEN] = 0
    write_features_in_parts(folder, rows)
    return folder, rows


def write_features_in_parts(folder, rows):
    plan = Plan(folder, rows.shape[1], "float32", {"dtype": "float32"}, {})
    for part in range(PARTS):
        own = range(ROWS * part, ROWS * part + ROWS)
        columns = {
            "key": [f"{number}.jpg" for number in own],
            "sha256": [bytes(32)] * ROWS,
            "label": [None] * ROWS,
            "error": ["broken" if number == BROKEN else None for number in own],
        }
        write_part(plan, part, str(part), columns, rows[ROWS * part : ROWS * part + ROWS])
    finish(plan, PARTS)


def tables(target):
    return pd.concat([pd.read_parquet(path) for path in sorted(target.glob("part-*"))], ignore_index=True)


@pytest.mark.parametrize("compiled", [True, False])
def test_predictions_are_those_of_all_rows_at_once(compiled, features, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "_ROWS", 7)
    assert streaming.loops() is not None
    if not compiled:
        for module in (row_loops, streaming):
            monkeypatch.setattr(module, "loops", lambda: None)
    folder, rows = features
    summary = classify_parts(classifier, folder, tmp_path / "out")
    found = tables(tmp_path / "out")
    good = np.arange(len(rows)) != BROKEN
    logits = classifier.method.logits(normalise(rows[good]))
    best, shares = top_k_ids(logits, 2), classifier.method.calibration_.probabilities(logits)
    known = classifier.method.calibration_.is_known(logits, 0.3)
    assert found["path"].tolist() == [f"{number}.jpg" for number in range(len(rows))]
    assert found["error"].dropna().to_dict() == {BROKEN: "broken"}
    assert found.loc[BROKEN, ["name_1", "probability_1", "unknown"]].isna().all()
    for rank in range(2):
        names = [classifier.class_names[index] for index in best[:, rank]]
        assert found.loc[good, f"name_{rank + 1}"].tolist() == names
        wanted = np.take_along_axis(shares, best, 1)[:, rank]
        np.testing.assert_allclose(found.loc[good, f"probability_{rank + 1}"], wanted, rtol=1e-5)
    assert (found.loc[good, "unknown"].astype(bool).to_numpy() == ~known).all()
    assert 0 < (~known).sum() < len(known)
    counts = {"rows": len(rows), "unreadable": 1, "unknown": int((~known).sum()), "parts": PARTS}
    assert {name: summary[name] for name in counts} == counts


def test_a_method_of_features_that_are_not_normalised_gets_them(features, task, tmp_path):
    folder, rows = features
    task = dataclasses.replace(task, support_raw=4 * task.support_features)
    method = create("coop-linear-probe").fit(task)
    assert method.raw_ and method.uses_raw
    classify_parts(Classifier(method, task.class_names, 1), folder, tmp_path / "out")
    found = tables(tmp_path / "out")["probability_1"].to_numpy()
    for length, same in ((1, True), (50, False)):
        shares = method.calibration_.probabilities(method.logits(Queries(normalise(rows), length * rows))).max(axis=1)
        assert np.allclose(np.delete(found, BROKEN), np.delete(shares, BROKEN), rtol=1e-5) == same


def test_the_folder_is_a_table_for_other_readers(features, classifier, tmp_path):
    folder, rows = features
    classify_parts(classifier, folder, tmp_path / "out.parquet")
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == len(rows)


def test_a_stopped_prediction_goes_on(features, classifier, tmp_path, monkeypatch, capsys):
    folder, _ = features
    out = tmp_path / "out"
    summary = classify_parts(classifier, folder, out)
    wanted = {path.name: path.read_bytes() for path in out.iterdir()}
    part_paths(out, 1)[0].unlink()
    whole = part_paths(out, 2)[0].read_bytes()
    part_paths(out, 2)[0].write_bytes(whole[:-9] + bytes(9))
    (out / SUMMARY).unlink()
    assert "done before" not in capsys.readouterr().err
    made = []
    genuine = streaming._predict_part
    monkeypatch.setattr(streaming, "_predict_part", lambda *given: made.append(given[2]) or genuine(*given))
    assert classify_parts(classifier, folder, out) == summary
    assert sorted(made) == [1, 2]
    assert "1 table of 3 done before; damaged ones, made again: 1" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == wanted


@pytest.mark.parametrize("change", ["top", "features"])
def test_a_stop_never_leaves_a_mixture(change, features, classifier, tmp_path, monkeypatch):
    """Readers of the folder would take older tables beside new ones for one result."""
    folder, rows = features
    out = tmp_path / "out"
    classify_parts(classifier, folder, out)
    if change == "top":
        classifier = dataclasses.replace(classifier, top=1)
    else:
        write_features_in_parts(folder, -rows)
    genuine = streaming._predict_part
    monkeypatch.setattr(
        streaming, "_predict_part", lambda *given: genuine(*given) if given[2] == 1 else stop(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        classify_parts(classifier, folder, out)
    left = {path.name for path in out.iterdir()}
    assert left <= {"part-00001.parquet"}


def stop(error):
    raise error


@pytest.mark.parametrize("stopped", [False, True])
def test_two_predictions_at_once_are_told(stopped, features, classifier, tmp_path, monkeypatch):
    folder, _ = features
    out = tmp_path / "out"
    genuine = streaming._predict_part
    other = dataclasses.replace(classifier, top=1)

    def with_another_before_the_last(found, source, number, *rest):
        counts = genuine(found, source, number, *rest)
        if found is classifier and number == PARTS - 1:
            classify_parts(other, folder, out)
            if stopped:
                part_paths(out, 0)[0].unlink()
        return counts

    monkeypatch.setattr(streaming, "_predict_part", with_another_before_the_last)
    with pytest.raises(UsageError, match="another command has changed"):
        classify_parts(classifier, folder, out)
    assert not (out / SUMMARY).exists()


@pytest.mark.parametrize("edit", ["rows", "names"])
@pytest.mark.parametrize("again", [True, False], ids=["same command", "another"])
def test_a_table_that_somebody_has_edited_is_not_replaced(edit, again, features, classifier, tmp_path):
    """pyarrow keeps the metadata by which a table is known as this program's."""
    folder, _ = features
    out = tmp_path / "out"
    classify_parts(classifier, folder, out)
    path = out / "part-00001.parquet"
    metadata = pq.read_metadata(path).metadata
    table = pq.read_table(path)
    name = table.schema.get_field_index("name_1")
    table = table.slice(1) if edit == "rows" else table.set_column(name, "name_1", table["name_2"])
    pq.write_table(table.replace_schema_metadata(metadata), path)
    mine = path.read_bytes()
    with pytest.raises(UsageError, match="part-00001"):
        classify_parts(classifier if again else dataclasses.replace(classifier, top=1), folder, out)
    assert path.read_bytes() == mine


@pytest.mark.parametrize("name", ["part-00001.parquet", "part-00007.parquet"])
def test_nothing_is_removed_before_a_refusal(name, features, classifier, tmp_path):
    """The other tables were gone when an edited one was refused, and a table beyond the last part stayed."""
    folder, _ = features
    out = tmp_path / "out"
    classify_parts(classifier, folder, out)
    (out / "part-00001.parquet").rename(out / name)
    table = pq.read_table(out / name)
    pq.write_table(table.slice(1).replace_schema_metadata(pq.read_metadata(out / name).metadata), out / name)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UsageError, match=name):
        classify_parts(dataclasses.replace(classifier, top=1), folder, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("content", [b"PAR1 cut short", b""])
def test_a_table_of_another_name_is_refused(content, features, classifier, tmp_path):
    """Readers would take it as one of the tables; it was deleted if it could not be read."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-00000-abc.snappy.parquet").write_bytes(content)
    with pytest.raises(UsageError, match=r"abc.snappy.parquet would be read as one of the tables"):
        classify_parts(classifier, features[0], out)
    assert (out / "part-00000-abc.snappy.parquet").read_bytes() == content


@pytest.mark.parametrize("metadata", [{}, *({"jclip_adapter": value} for value in (b"[1]", b"3", b"{}"))])
def test_a_table_of_somebody_else_is_not_replaced(metadata, features, classifier, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    table = pa.Table.from_pandas(pd.DataFrame({"mine": [1]}))
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **metadata}), out / "part-00001.parquet")
    mine = (out / "part-00001.parquet").read_bytes()
    with pytest.raises(UsageError, match="part-00001"):
        classify_parts(classifier, features[0], out)
    assert (out / "part-00001.parquet").read_bytes() == mine


def test_every_damage_of_a_tables_footer_is_mended_or_harmless(features, classifier, tmp_path):
    folder, _ = features
    out = tmp_path / "out"
    classify_parts(classifier, folder, out)
    path = out / "part-00001.parquet"
    whole, table = path.read_bytes(), pq.read_table(path)
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    places = [whole.rindex(text) for text in (b"path", b"name_1", b'"rows"', b'"seal"', b"probability_2")]
    for place in [*places, *range(len(whole) - footer, len(whole), 37)]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x94
        path.write_bytes(damaged)
        classify_parts(classifier, folder, out)
        assert pq.read_table(path).equals(table), place
        path.write_bytes(whole)


def test_a_summary_of_tables_that_are_overwritten_is_removed(features, classifier, tmp_path, monkeypatch):
    """Another command had finished between this one's start and its first table."""
    folder, _ = features
    out = tmp_path / "out"
    other = dataclasses.replace(classifier, top=1)
    monkeypatch.setattr(streaming, "in_threads", lambda function, items, waiting: map(function, items))
    genuine = streaming._done

    def after_another(path, facts, found):
        if found is classifier and not (out / SUMMARY).exists():
            monkeypatch.setattr(streaming, "_done", genuine)
            classify_parts(other, folder, out)
            assert (out / SUMMARY).exists()
            monkeypatch.setattr(streaming, "_predict_part", lambda *_: stop(KeyboardInterrupt))
        return genuine(path, facts, found)

    monkeypatch.setattr(streaming, "_done", after_another)
    with pytest.raises(KeyboardInterrupt):
        classify_parts(classifier, folder, out)
    assert not (out / SUMMARY).exists()


def test_a_file_in_place_of_the_folder_is_refused(features, classifier, tmp_path):
    (tmp_path / "out").write_text("notes")
    with pytest.raises(UsageError, match="is a file"):
        classify_parts(classifier, features[0], tmp_path / "out")


def test_what_is_replaced_is_told(features, classifier, tmp_path, capsys):
    folder, _ = features
    classify_parts(classifier, folder, tmp_path / "out")
    classify_parts(classifier, folder, tmp_path / "out")
    assert "replaced" not in capsys.readouterr().err
    classify_parts(dataclasses.replace(classifier, top=1), folder, tmp_path / "out")
    assert "they are replaced" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["middle", "end"])
def test_a_damaged_table_is_predicted_again(damage, features, classifier, tmp_path):
    folder, _ = features
    target = tmp_path / "out"
    classify_parts(classifier, folder, target)
    path = target / "part-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] if damage == "end" else whole[:30] + bytes(len(whole[30:60])) + whole[60:])
    classify_parts(classifier, folder, target)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("change", ["top", "temperature", "features"])
def test_what_was_predicted_otherwise_is_predicted_again(change, features, classifier, tmp_path):
    folder, rows = features
    out = tmp_path / "out"
    classify_parts(classifier, folder, out)
    before = {path.name: path.read_bytes() for path in out.glob("part-*")}
    if change == "features":
        plan = Plan(folder, rows.shape[1], "float32", {"dtype": "float32"}, {})
        columns = {name: [None] * 4 for name in ("sha256", "label", "error")}
        write_part(plan, 0, "new", {"key": list("abcd"), **columns}, rows[:4])
        finish(plan, 2)
    elif change == "top":
        classifier = dataclasses.replace(classifier, top=1)
    else:
        classifier.method.calibration_ = dataclasses.replace(classifier.method.calibration_, temperature=0.4)
    classify_parts(classifier, folder, out)
    after = {path.name: path.read_bytes() for path in out.glob("part-*")}
    same = {name for name in after if after[name] == before[name]}
    assert same == ({"part-00001.parquet"} if change == "features" else set())
    assert len(after) == (2 if change == "features" else 3)  # of a third part that is gone nothing is left


def test_a_part_without_photos_has_an_empty_table(features, classifier, tmp_path):
    folder, rows = features
    plan = Plan(folder, rows.shape[1], "float32", {"dtype": "float32"})
    write_part(plan, PARTS, "empty", {name: [] for name in ("key", "sha256", "label", "error")}, rows[:0])
    finish(plan, PARTS + 1)
    summary = classify_parts(classifier, folder, tmp_path / "out")
    assert (summary["parts"], summary["rows"]) == (PARTS + 1, len(rows))
    empty = pd.read_parquet(part_paths(tmp_path / "out", PARTS)[0])
    assert len(empty) == 0
    assert empty.columns.tolist() == tables(tmp_path / "out").columns.tolist()
    assert len(pd.read_parquet(tmp_path / "out")) == len(rows)


def test_what_cannot_be_predicted_is_refused(features, classifier, tmp_path):
    folder, _ = features
    transductive = create("hard-em-dirichlet")
    with pytest.raises(UsageError, match="transductive"):
        classify_parts(dataclasses.replace(classifier, method=transductive), folder, tmp_path / "out")
    table = part_paths(folder, 2)[0]
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DataError, match="part-00002"):
        classify_parts(classifier, folder, tmp_path / "out")
    (folder / MANIFEST).unlink()
    with pytest.raises(DataError, match="not finished"):
        classify_parts(classifier, folder, tmp_path / "out")
