"""The stand-in's parts pass for parts that are done."""

from benchmarks.engine_overhead import ROWS, stand_in
from jclip_adapter.features.parts import source
from jclip_adapter.features.parts.engine import Work
from jclip_adapter.features.parts.files import Plan, finish
from tests.features.encoders import MeanColour


def test_a_stand_ins_part_is_done(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.tar").touch()
    out = tmp_path / "out"
    out.mkdir()
    encoder = MeanColour()
    plan = Plan.of(out, encoder)
    handed_out = []

    def encode(units):
        for unit in units:
            handed_out.append(unit.number)
            yield stand_in(encoder, plan, unit)

    for _ in range(2):  # the second time, nothing is missing or damaged
        work = Work(plan, lambda: source.units(f"{tmp_path}/*.tar"))
        work.complete(encode)
    assert handed_out == [0, 1, 2]
    assert finish(plan, work.count)["rows"] == 3 * ROWS
