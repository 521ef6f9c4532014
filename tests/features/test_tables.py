"""Labels from CSV, and splits that keep patients together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.features import SlideTable, read_slide_table, split_patients


def test_a_table_is_read(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        '\ufeffcase,file,grade\np1,a.svs,high\np1,/data/b.1.ome.tiff, low\n"p 2",c,\n', "utf-8"
    )
    table = read_slide_table(path, slide="file", patient="case", label="grade")
    assert table == SlideTable(("a", "b.1", "c"), ("p1", "p1", "p 2"), ("high", "low", ""))
    assert table.labels == {"a": "high", "b.1": "low"}
    assert table.classes == ("high", "low")
    own = read_slide_table(path, slide="file", patient=None, label=None)
    assert own.patient == own.slide
    assert own.labels == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,label\na,1\n", "no column 'patient'; it has slide, label"),
        ("slide,patient,label\na,p,1\na.svs,p,1\n", "named twice: a"),
        ("slide,patient,label\n,p,1\n", "row without slide"),
        ("slide,patient,label\na,,1\n", "row without patient"),
        ("", "no column 'slide'"),
    ],
)
def test_broken_tables_are_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_slide_table(tmp_path / "t.csv")


def test_absent_and_unreadable_tables(tmp_path):
    with pytest.raises(SourceNotFoundError):
        read_slide_table(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes(b"slide\xff")
    with pytest.raises(UsageError, match="UTF-8"):
        read_slide_table(tmp_path / "t.csv")


tables = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["a", "b", ""])), min_size=20, max_size=60
).map(
    lambda rows: SlideTable(
        tuple(f"s{i}" for i in range(len(rows))),
        tuple(f"p{patient}" for patient, _ in rows),
        tuple(label for _, label in rows),
    )
)


@given(tables, st.integers(0, 3), st.booleans())
def test_no_patient_is_in_two_sets(table, seed, by_label):
    if len(set(table.patient)) < 3:
        return
    sets = split_patients(table, (0.6, 0.2, 0.2), seed, by_label=by_label)
    assert list(sets) == ["train", "val", "test"]
    assert sorted(slide for names in sets.values() for slide in names) == sorted(table.slide)
    patient = dict(zip(table.slide, table.patient, strict=True))
    owners = [{patient[slide] for slide in names} for names in sets.values()]
    assert sum(map(len, owners)) == len(set(table.patient))


def balanced(patients=100):
    return SlideTable(
        tuple(f"s{i}" for i in range(patients * 2)),
        tuple(f"p{i // 2}" for i in range(patients * 2)),
        tuple("ab"[(i // 2) % 2] for i in range(patients * 2)),
    )


def test_shares_and_labels_are_met():
    table = balanced()
    sets = split_patients(table, {"train": 7, "test": 3}, seed=1)
    assert {name: len(slides) for name, slides in sets.items()} == {"train": 140, "test": 60}
    for slides in sets.values():
        assert sum(table.labels[slide] == "a" for slide in slides) == len(slides) // 2


def test_large_patients_are_dealt_out_first():
    table = SlideTable(
        tuple(f"s{i:02}" for i in range(12)),
        tuple(["large"] * 6 + [f"p{i}" for i in range(6)]),
        ("",) * 12,
    )
    for seed in range(5):
        sets = split_patients(table, (0.5, 0.5), seed)
        assert {len(slides) for slides in sets.values()} == {6}


def test_a_seed_gives_one_split_whatever_the_order_of_rows():
    table = balanced()
    backwards = SlideTable(table.slide[::-1], table.patient[::-1], table.label[::-1])
    assert split_patients(table, (8, 2), 5) == split_patients(backwards, (8, 2), 5)
    assert split_patients(table, (8, 2), 5) != split_patients(table, (8, 2), 6)


@pytest.mark.parametrize("fractions", [(1,), (0.5, -0.5), (0, 0), {"a": float("inf")}])
def test_absurd_fractions_are_refused(fractions):
    with pytest.raises(UsageError):
        split_patients(balanced(), fractions)


def test_too_few_patients_are_refused():
    with pytest.raises(UsageError, match="1 patients can't be split into 2 sets"):
        split_patients(SlideTable(("a", "b"), ("p", "p"), ("", "")), (0.5, 0.5))
