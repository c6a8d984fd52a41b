"""The defaults that no paper settles are those that results/defaults.csv says were best on left-out shots."""

import csv
import json
from statistics import fmean

import pytest

from benchmarks import choose_defaults, selection_margin
from jclip_adapter.evaluation import selection
from jclip_adapter.methods import create
from jclip_adapter.storage import read_lines


@pytest.mark.parametrize("question", choose_defaults.QUESTIONS, ids=lambda question: question.methods[0])
def test_the_code_declares_what_was_chosen(question):
    chosen = choose_defaults.answer(question, choose_defaults.read_rows())
    chosen.pop("variant", None)  # both variants are in the grid; the others' values are asked for each of them
    for name in question.methods:
        declared = create(name).hyper.as_dict()
        assert {key: declared[key] for key in chosen} == chosen


def test_the_best_mean_wins_and_other_questions_do_not_count():
    question = choose_defaults.Question(("gda",), {"alpha": (1.0, 2.0)})

    def row(alpha, dataset, accuracy, likelihood=-1.0, method="gda", **further):
        values = json.dumps({"alpha": alpha, **further})
        return dict(method=method, values=values, dataset=dataset, accuracy=str(accuracy), likelihood=str(likelihood))

    rows = [row(1.0, "a", 50), row(1.0, "b", 60), row(2.0, "a", 70), row(2.0, "b", 41)]
    assert choose_defaults.answer(question, rows) == {"alpha": 2.0}
    rows += [row(1.0, "a", 99, method="ape"), row(3.0, "a", 99), row(1.0, "a", 99, beta=1)]
    assert choose_defaults.answer(question, rows) == {"alpha": 2.0}
    rows[3] = row(2.0, "b", 40, likelihood=-2.0)
    assert choose_defaults.answer(question, rows) == {"alpha": 1.0}


def test_the_margin_of_selection_is_the_largest_that_loses_no_accuracy_on_held_out_shots():
    rows = list(csv.DictReader(read_lines(selection_margin.RESULTS.with_suffix(".csv"))))
    mean = {
        margin: fmean(float(row["accuracy"]) for row in rows if float(row["margin"]) == margin)
        for margin in selection_margin.MARGINS
    }
    assert max(margin for margin, share in mean.items() if share >= mean[0]) == selection.MARGIN
