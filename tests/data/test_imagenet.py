"""ImageNet's class names, and which of them the classes of a data set are."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict

import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.texts import imagenet
from jclip_adapter.data.texts.imagenet import Match, match_names
from jclip_adapter.data.texts.prompts import domain_of
from tests.data.test_prompts import CONTEST, PHOTOS, PROMPTS

CLASSES = "imagenet.csv"
MATCHES = "imagenet_matches.csv"
NONE = Match("none", ())

# Ids that are exact for two classes of the contest, and why.
SHARED = {
    7: ({"Animal_Chicken", "Caltech-101_rooster"}, "a rooster is a chicken; the two come from different data sets"),
    286: ({"Caltech-101_cougar_body", "Caltech-101_cougar_face"}, "two views of one animal"),
    288: ({"Animal_Leopard", "Caltech-101_Leopards"}, "one animal in two data sets"),
}

EXACT = {
    "Animal_Bear": ["brown bear", "American black bear", "sloth bear"],  # Polar_bear is a class of its own
    "Animal_Polar_bear": ["ice bear"],
    "Animal_Panda": ["giant panda"],  # not the red one, which is called panda as well
    "Animal_Fox": ["red fox", "kit fox", "Arctic fox", "grey fox"],
    "Animal_Chicken": ["cock", "hen"],
    "Animal_Tiger": ["tiger"],  # neither tiger cat nor tiger shark
    "Animal_Sea_lion": ["sea lion"],
    "Caltech-101_Leopards": ["leopard"],
    "Caltech-101_crayfish": ["crayfish"],  # the spiny lobster is called crayfish as well
    "Caltech-101_ewer": ["pitcher"],
    "Caltech-101_laptop": ["laptop", "notebook"],
    "Caltech-101_lobster": ["American lobster", "spiny lobster"],
    "Food-101_hot_dog": ["hotdog"],
    "Food-101_spaghetti_carbonara": ["carbonara"],
    "Thu-dog_Blenheim_spaniel": ["Blenheim spaniel"],
    "Thu-dog_Boston_bull": ["Boston bull"],
    "Thu-dog_Brabancon_griffo": ["Brabancon griffon"],
    "Thu-dog_Cardigan": ["Cardigan"],
    "Thu-dog_Eskimo_dog": ["Eskimo dog"],
    "Thu-dog_German_shepherd": ["German shepherd"],
    "Thu-dog_Leonberg": ["Leonberg"],
    "Thu-dog_Scotch_terrier": ["Scotch terrier"],
    "Thu-dog_boxer": ["boxer"],
    "Thu-dog_toy_terrier": ["toy terrier"],
}
NEAR = {
    "Animal_Camel": ["Arabian camel"],
    "Animal_Squirrel": ["fox squirrel"],
    "Animal_Whale": ["grey whale", "killer whale"],
    "Caltech-101_airplanes": ["airliner", "warplane"],
    "Caltech-101_emu": ["ostrich"],
    "Caltech-101_hedgehog": ["porcupine"],
    "Food-101_hamburger": ["cheeseburger"],
    "Food-101_waffles": ["waffle iron"],
    "Stanford-Cars_Chrysler_PT_Cruiser_Convertible_2008": ["convertible"],
    "Stanford-Cars_Ford_F-150_Regular_Cab_2007": ["pickup"],
    "Thu-dog_Bichon_Frise": ["Maltese dog", "toy poodle"],
    "Thu-dog_Cane_Carso": ["bull mastiff"],
    "Thu-dog_teddy": ["toy poodle", "miniature poodle"],  # a poodle's haircut, no teddy bear
}
LACKING = ["Animal_Giraffe", "Caltech-101_Faces", "Caltech-101_rhino", "Food-101_sushi", "Thu-dog_chinese_rural_dog"]

# Classes of another list, which are not in list B.
LIKE = {
    "Animal_Bison": "exact bison",
    "Animal_Killer_Whale": "exact killer whale",
    "Animal_Lobster": "exact American lobster; spiny lobster",  # by the row of another domain
    "Animal_Turkey": "none ",
    "Caltech-101_dolphin": "near grey whale; killer whale",
    "Caltech-101_flamingo": "exact flamingo",
    "Caltech-101_panda": "exact giant panda",
    "Thu-dog_American_Bulldog": "near American Staffordshire terrier; bull mastiff",
    "Thu-dog_American_Pit_Bull_Terrier": "exact American Staffordshire terrier",
    "Thu-dog_English_Cocker_Spaniel": "exact cocker spaniel",
    "Thu-dog_German_Shorthaired": "exact German short-haired pointer",
    "Thu-dog_Japanese_Chin": "exact Japanese spaniel",
    "Thu-dog_Scottish_Terrier": "exact Scotch terrier",
    "Thu-dog_Staffordshire_Bull_Terrier": "exact Staffordshire bullterrier",
    "Thu-dog_Wheaten_Terrier": "exact soft-coated wheaten terrier",
}


def rows(file: str) -> list[dict[str, str]]:
    with (PROMPTS / file).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def first_names() -> list[str]:
    return [row["names"].split("; ")[0] for row in rows(CLASSES)]


def words(match: Match) -> list[str]:
    names = first_names()
    return [names[index] for index in match.ids]


def matched(name: str, domain: str | None = None) -> Match:
    return match_names([name], [domain_of(name) if domain is None else domain])[0]


# ---- the tables


def test_the_thousand_classes_stand_in_the_usual_order():
    names = first_names()
    assert len(names) == 1000
    known = {0: "tench", 1: "goldfish", 7: "cock", 134: "crane", 151: "Chihuahua", 207: "golden retriever"}
    known |= {268: "Mexican hairless", 281: "tabby", 388: "giant panda", 404: "airliner", 517: "crane", 609: "jeep"}
    known |= {638: "maillot", 639: "maillot", 817: "sports car", 933: "cheeseburger", 999: "toilet tissue"}
    assert {index: names[index] for index in known} == known
    numbers = [row["wordnet"] for row in rows(CLASSES)]
    assert (numbers[0], numbers[235], numbers[999]) == ("n01440764", "n02106662", "n15075141")
    assert numbers == sorted(numbers)  # ImageNet's order is that of the numbers


def test_the_contests_classes_have_one_row_each_in_their_order():
    assert [row["class"] for row in rows(MATCHES)][: len(CONTEST)] == CONTEST


def test_classes_with_a_match_have_ids_and_others_none():
    for row in rows(MATCHES):
        ids = [int(word) for word in row["imagenet"].split()]
        assert (row["match"] in {"exact", "near"}) == bool(ids), row
        assert row["match"] in {"exact", "near", "none"}, row
        assert ids == sorted(set(ids)) and set(ids) <= set(range(1000)), row


def test_the_reader_gives_every_row_by_its_full_name():
    table = rows(MATCHES)
    wanted = [Match(row["match"], tuple(map(int, row["imagenet"].split()))) for row in table]
    names = [row["class"] for row in table]
    assert list(match_names(names)) == wanted
    assert list(match_names(names, [domain_of(name) for name in names])) == wanted


def test_no_id_is_exact_for_two_classes_but_those_told():
    owners = defaultdict(set)
    for name, match in zip(CONTEST, match_names(CONTEST), strict=True):
        for index in match.ids if match.kind == "exact" else ():
            owners[index].add(name)
    twice = {index: names for index, names in owners.items() if len(names) > 1}
    assert twice == {index: names for index, (names, _) in SHARED.items()}


def test_breeds_take_dogs_only():
    dogs = {*range(151, 269), 273, 274, 275}  # dingo, dhole and African hunting dog are breeds of this domain
    breeds = [name for name in CONTEST if domain_of(name) == "Thu-dog"]
    taken = [index for match in match_names(breeds) for index in match.ids]
    assert set(taken) <= dogs
    exact = {index for match in match_names(breeds) if match.kind == "exact" for index in match.ids}
    assert exact == dogs - {251}  # the dalmatian is one of Caltech-101's


@pytest.mark.parametrize(("kind", "expected"), [("exact", EXACT), ("near", NEAR)])
def test_single_matches(kind, expected):
    found = {
        name: (match.kind, words(match)) for name, match in zip(expected, match_names(list(expected)), strict=True)
    }
    assert found == {name: (kind, names) for name, names in expected.items()}


def test_classes_that_imagenet_lacks():
    assert set(match_names(LACKING)) == {NONE}


def test_the_readme_counts_the_matches():
    counted = Counter((domain_of(row["class"]), row["match"]) for row in rows(MATCHES)[: len(CONTEST)])
    domains = list(dict.fromkeys(map(domain_of, CONTEST)))
    lines = [[domain, *(str(counted[domain, kind]) for kind in ("exact", "near", "none"))] for domain in domains]
    text = (PROMPTS / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (\S+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert [list(line) for line in told] == lines


# ---- names without a row of their own


@pytest.mark.parametrize("name", LIKE)
def test_classes_of_other_lists(name):
    assert name in PHOTOS and name not in CONTEST
    match = matched(name)
    assert f"{match.kind} {'; '.join(words(match))}" == LIKE[name]


def test_all_photo_classes_without_a_match_are_known():
    kinds = {name: matched(name).kind for name in PHOTOS if name not in CONTEST}
    assert [name for name, kind in kinds.items() if kind == "none"] == ["Animal_Turkey", "Caltech-101_pigeon"]


@pytest.mark.parametrize(
    "name", ["golden retriever", "Golden_Retriever", "golden-retriever", "GOLDENRETRIEVER", "Thu-dog_golden retriever"]
)
def test_spellings_are_all_the_same(name):
    assert match_names([name]) == (Match("exact", (207,)),)


@pytest.mark.parametrize(
    ("name", "domain", "word"),
    [
        ("toilet_paper", "", "toilet tissue"),  # a synonym
        ("Toilet_Papers", "", "toilet tissue"),  # its plural
        ("Things_jack-o-lantern", "Things", "jack-o'-lantern"),
        ("My_Things_volcanos", "My_Things", "volcano"),  # a domain that holds a "_"
        ("Panthera leo", "", "lion"),
        ("n02113186-Cardigan", "", "Cardigan"),  # Stanford Dogs' folders
        ("n02012849", "", "crane"),
        ("Dogs_n02113186-Cardigan", "Dogs", "Cardigan"),
        ("200-n000008-Airedale", "", "Airedale"),  # Tsinghua Dogs' folders
        ("sunglasses", "", "sunglasses"),  # the word as it stands goes before the word without its "s"
    ],
)
def test_names_are_found_among_wordnets_words(name, domain, word):
    match = matched(name, domain)
    assert (match.kind, words(match)) == ("exact", [word])


@pytest.mark.parametrize(
    "name",
    ["crane", "Cranes", "maillot", "harp", "grass snake", "n00000001-nothing", "flying carpet", "glass", "s", ""],
)
def test_words_of_several_classes_and_of_none_are_no_match(name):
    assert matched(name, "") == NONE


def test_a_word_that_begins_like_a_domain_is_cut_only_where_it_is_one():
    assert matched("Birds_brambling", "Birds").ids == (10,)
    assert matched("Birds_brambling", "") == NONE
    assert matched("brambling", "Birds").ids == (10,)


def test_a_row_of_another_domain_decides_unless_the_word_has_another_meaning():
    assert matched("cardigan", "").ids == (264,)  # without a domain, the row decides
    assert matched("Cardigan", "Thu-dog").ids == (264,)
    assert matched("Clothes_cardigan", "Clothes") == NONE  # a dog or a jacket
    assert matched("Toys_teddy", "Toys") == Match("exact", (850,))
    assert matched("Kitchen_cup", "Kitchen") == matched("Caltech-101_cup")


def test_names_and_domains_must_be_as_many():
    with pytest.raises(ValueError, match="shorter"):
        match_names(["lion", "tiger"], [""])
    assert match_names([]) == ()


# ---- damaged tables


@pytest.fixture
def copied(tmp_path, monkeypatch):
    for file in (CLASSES, MATCHES):
        (tmp_path / file).write_bytes((PROMPTS / file).read_bytes())
    monkeypatch.setattr(imagenet, "_FOLDER", tmp_path)
    return tmp_path


def test_copied_tables_are_read(copied):
    assert matched("Thu-dog_Chihuahua").ids == (151,)
    for file in (CLASSES, MATCHES):  # as git writes it on Windows
        (copied / file).write_bytes((PROMPTS / file).read_bytes().replace(b"\n", b"\r\n"))
    imagenet._load.cache_clear()
    assert matched("Thu-dog_Chihuahua").ids == (151,)


def test_a_row_that_a_user_adds_decides(copied):
    with (copied / MATCHES).open("a", encoding="utf-8") as handle:
        handle.write("Clothes_cardigan,exact,474\n")
    assert matched("Clothes_cardigan").ids == (474,)
    assert matched("Thu-dog_Cardigan").ids == (264,)
    assert (matched("cardigan", "Clothes").ids, matched("cardigan", "Thu-dog").ids) == ((474,), (264,))
    assert matched("cardigan", "") == NONE  # the two rows contradict each other, and so do WordNet's words


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        (CLASSES, "id,wordnet,names", "id,names", "its first line is not id,wordnet,names"),
        (CLASSES, "151,n02085620,Chihuahua\n", "", "line 153 is not class 151"),
        (CLASSES, "n02085620,Chihuahua", "n0208562,Chihuahua", "line 153 is not class 151"),
        (CLASSES, "n02085620,Chihuahua", "n01440764,Chihuahua", "line 153 is not class 151"),  # tench's number
        (CLASSES, "n02085620,Chihuahua", "n02085620,", "line 153 is not class 151"),
        (CLASSES, "n02085620,Chihuahua", "n02085620", "line 153 has 2 cells, not 3"),
        (CLASSES, "999,n15075141,toilet tissue; toilet paper; bathroom tissue\n", "", "it has 999 classes, not 1000"),
        (MATCHES, "class,match,imagenet\n", "", "its first line is not class,match,imagenet"),
        (MATCHES, "Animal_Bee,exact,309", "Animal_Bee,exactly,309", "line 3 is not <Domain>_<Name>"),
        (MATCHES, "Animal_Bee,exact,309", "Animal_Bee,exact,1309", "line 3 is not <Domain>_<Name>"),
        (MATCHES, "Animal_Bee,exact,309", "Animal_Bee,exact,309 309", "line 3 is not <Domain>_<Name>"),
        (MATCHES, "Animal_Bee,exact,309", "Animal_Bee,exact,", "line 3 is not <Domain>_<Name>"),
        (MATCHES, "Animal_Bee,exact,309", "Animal_Bee,none,309", "line 3 is not <Domain>_<Name>"),
        (MATCHES, "Animal_Bee,exact,309", "Bee,exact,309", "line 3 is not <Domain>_<Name>"),
        (MATCHES, "Animal_Bee,exact,309", "Animal_Bee", "line 3 has 1 cells, not 3"),
        (MATCHES, "Animal_Bee,exact,309", '"Animal_Bee,exact,309', "line 3 has 1 cells, not 3"),
        (MATCHES, "Animal_Bee,exact,309", "Animal_Bear,exact,309", "line 3 has 'Animal_Bear' again"),
        (MATCHES, "Animal_Bee,exact,309\n", "", "it has 417 rows, of 418 or more"),
    ],
)
def test_damage_is_told(copied, file, old, new, reason):
    text = (copied / file).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (copied / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        matched("Thu-dog_Chihuahua")
    assert f"{copied / file} is damaged: {reason}" in caught.value.message
    assert caught.value.hint == "Run the program from a complete copy of the repository."


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
@pytest.mark.parametrize("file", [CLASSES, MATCHES])
def test_tables_that_are_missing_or_no_text_are_told(copied, file, content):
    (copied / file).unlink()
    if content is not None:
        (copied / file).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(copied / file))) as caught:
        match_names(["crane"])
    assert caught.value.hint == "Run the program from a complete copy of the repository."


def test_the_shipped_rows_are_as_many_as_the_reader_asks_for():
    assert len(rows(MATCHES)) == imagenet._MATCHES


def test_all_lines_are_unix_lines_in_utf_8():
    for file in (CLASSES, MATCHES):
        data = (PROMPTS / file).read_bytes()
        assert data.decode("ascii") and b"\r" not in data and data.endswith(b"\n")
