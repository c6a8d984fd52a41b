"""Prompts: the project's own sets on all names of the contest, and what a user's file may and may not hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jclip_adapter.core.errors import DataError, SetupError, UsageError
from jclip_adapter.data.texts.prompts import PromptSet, available_prompts, domain_of, load_prompts, read_by_rule
from tests import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
PROMPTS = ROOT / "prompts"
SETS = ("coop", "ensemble", "jclip", "seed", "slides", "sound", "zh")
FOR_THE_CONTEST = ("ensemble", "jclip", "seed", "slides", "zh")
# Characters of zh.yaml beyond GB 2312's first level: in Chinese-CLIP's vocab.txt (of cn_clip 1.6.0), and not.
LOOKED_UP = frozenset("喱噌橘浣淇焗猬獒玳瑁缇腌莓蚝蜊蜓蜱蜻螃豚貂贻靼鞑鱿鲈鲨鳄鹉鹦鹭")
UNKNOWN = frozenset("蜉蝣")


def names_of(fixture: str) -> list[str]:
    return [line.rsplit(" ", 1)[0] for line in (FIXTURES / fixture).read_text(encoding="utf-8").splitlines()]


CONTEST = names_of("contest_classes_b.txt")
PHOTOS = names_of("photo_classes.txt")
LISTS = pytest.mark.parametrize("names", [CONTEST, PHOTOS], ids=["contest", "photos"])


@pytest.fixture
def user_file(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# ---- the project's own sets


def test_the_sets_are_found_by_name():
    assert available_prompts() == sorted(SETS)


def test_the_lists_are_whole():
    assert len(CONTEST) == len(set(CONTEST)) == 403
    assert len(PHOTOS) == len(set(PHOTOS)) == 176


def test_seed_has_the_sentences_of_the_slides():
    seed = load_prompts("seed")
    assert seed.texts("Animal_Polar_bear") == ["a photo of Polar bear, a kind of an animal"]
    assert seed.texts("Thu-dog_Shih_Tzu") == ["a photo of Shih Tzu, a category of a dog"]
    assert seed.texts("Caltech-101_car_side") == ["a photo of car seen from the side, a kind of an object"]
    assert seed.texts("Food-101_apple_pie") == ["a photo of apple pie, a type of food"]
    assert seed.texts("Stanford-Cars_Audi_TTS_Coupe_2012") == ["a photo of 2012 Audi TTS Coupe, a type of car"]
    assert seed.texts("Flowers_rose") == ["a photo of rose"]


def test_jclip_is_the_contest_baseline():
    jclip = load_prompts("jclip")
    strip = {"Animal": 7, "Thu-dog": 8, "Caltech-101": 12, "Food-101": 9}  # the lengths in JCLIP's baseline.py
    for name in CONTEST[:374]:
        assert jclip.texts(name) == ["a photo of " + name[strip[domain_of(name)] :]]
    assert jclip.texts("Thu-dog_Shih_tzu (small one)") == ["a photo of Shih_tzu"]


def test_slides_has_the_prompts_of_the_slides_code():
    """Computed another way: by the lengths of the prefixes, on the names of list A."""
    kinds = {
        "Animal": (7, "a kind of an animal"),
        "Thu-dog": (8, "a category of a dog"),
        "Caltech-101": (12, "a kind of an object"),
        "Food-101": (9, "a type of food"),
    }
    slides, seed = load_prompts("slides"), load_prompts("seed")
    for name in CONTEST[:374]:
        length, kind = kinds[domain_of(name)]
        assert slides.texts(name) == [f"a photo of {name[length:].split(' ')[0]}, {kind}"]
    assert slides.texts("Thu-dog_Shih_tzu (small one)") == ["a photo of Shih_tzu, a category of a dog"]
    different = sum(slides.texts(name) != seed.texts(name) for name in CONTEST[:374])
    assert f"different prompts for {different} of the 374 classes" in (PROMPTS / "README.md").read_text("utf-8")


def test_coop_has_a_sentence_for_each_of_its_eleven_sets():
    coop = load_prompts("coop")
    assert len(coop.templates) == 11 + 1
    assert all(len(texts) == 1 and texts[0].endswith(".") for texts in coop.templates.values())
    for domain, name, text in (
        ("OxfordPets", "english_cocker_spaniel", "a photo of a english cocker spaniel, a type of pet."),
        ("DescribableTextures", "banded", "banded texture."),
        ("UCF101", "Apply_Eye_Makeup", "a photo of a person doing Apply Eye Makeup."),
        ("EuroSAT", "Annual Crop Land", "a centered satellite photo of Annual Crop Land."),
        ("StanfordCars", "2012 Audi TTS Coupe", "a photo of a 2012 Audi TTS Coupe."),
        ("Food101", "apple_pie", "a photo of apple pie, a type of food."),
    ):
        assert coop.texts(name, domain) == [text]


def test_the_ensemble_begins_with_the_seed_and_is_rectangular():
    seed, ensemble = load_prompts("seed"), load_prompts("ensemble")
    assert set(seed.templates) == set(ensemble.templates)
    for domain, texts in ensemble.templates.items():
        assert texts[0] == seed.templates[domain][0]
        assert len(texts) == 12


def test_chinese_has_all_names_of_the_contest_and_a_sentence_per_domain():
    raw = yaml.safe_load((PROMPTS / "zh.yaml").read_text(encoding="utf-8"))
    assert set(raw["spellings"]) == set(CONTEST)
    assert set(raw["templates"]) == {"default", *map(domain_of, CONTEST)} == set(load_prompts("seed").templates)
    assert all(sentence.count("{}") == 1 for sentences in raw["templates"].values() for sentence in sentences)
    zh = load_prompts("zh")
    assert zh.texts("Thu-dog_chinese_rural_dog") == ["一张中华田园犬的照片，一种犬"]
    for name in CONTEST:
        words = zh.class_name(name)
        assert re.search("[\u4e00-\u9fff]", words), name
        assert domain_of(name) == "Stanford-Cars" or re.fullmatch("[\u4e00-\u9fff]+", words), name
        assert [words in text for text in zh.texts(name)] == [True]


def test_chinese_has_no_rare_characters_but_those_looked_up_in_the_vocabulary_of_chinese_clip():
    """GB 2312's first level has 3,755 frequent characters, which all are in that vocabulary, as are LOOKED_UP."""
    used = {letter for name in CONTEST for text in load_prompts("zh").texts(name) for letter in text}
    codes = {letter: letter.encode("gb2312", "ignore") for letter in used}
    frequent = {letter for letter, code in codes.items() if code and code[0] <= 0xA0 + 55}
    assert used - frequent == {*LOOKED_UP, *UNKNOWN}
    assert set(load_prompts("zh").class_name("Caltech-101_mayfly")) >= UNKNOWN


def test_a_set_on_top_of_the_chinese_one_has_its_names(user_file):
    mine = load_prompts(user_file("base: zh\nspellings:\n  Animal_Elk: 驼鹿\n"))
    assert mine.texts("Animal_Elk") == ["一张驼鹿的照片，一种动物"]
    assert mine.texts("Animal_Cat") == ["一张猫的照片，一种动物"]
    assert mine.check_names(["Animal_Elk", "Animal_Cat"]) == []
    assert load_prompts("zh").check_names(["Animal_Cat"]) == []


@LISTS
@pytest.mark.parametrize("which", ["seed", "ensemble"])
def test_every_name_reads_well(which, names):
    prompts = load_prompts(which)
    for name in names:
        words = prompts.class_name(name)
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9' -]*[A-Za-z0-9]", words), (name, words)
        assert not re.search(r" \d+$", words), f"{name}: '{words}' ends in a number"
        assert domain_of(name).lower() not in words.lower()
        for text in prompts.texts(name):
            assert words in text
            assert "  " not in text and "_" not in text and "{" not in text
            repeated = set(re.findall(r"\b(\w+),? \1\b", text.lower()))
            assert repeated <= {"chow"}, text


@LISTS
@pytest.mark.parametrize("which", FOR_THE_CONTEST)
def test_no_two_classes_share_a_text(which, names):
    prompts = load_prompts(which)
    # Without domains in the sentence, as in the contest's baseline, an animal and an object may be one text.
    alike = {"dolphin", "lobster", "pizza"} if which == "jclip" and names is PHOTOS else set()
    assert len(prompts.check_names(names)) == len(alike)
    assert all(any(word in line for word in alike) for line in prompts.check_names(names))
    in_domain = [(domain_of(name), prompts.class_name(name).lower()) for name in names]
    assert len(set(in_domain)) == len(names)


def test_every_spelling_is_needed_and_used():
    entries = yaml.safe_load((PROMPTS / "class_names.yaml").read_text(encoding="utf-8"))
    assert set(entries) <= set(CONTEST) | set(PHOTOS)
    for name, words in entries.items():
        by_rule = read_by_rule(name.removeprefix(domain_of(name) + "_"))
        assert words.lower() != by_rule.lower(), f"{name}: the rule says that already"


@pytest.mark.parametrize("which", FOR_THE_CONTEST)
def test_no_domain_of_the_contest_is_missed(which):
    assert load_prompts(which).check_domains({domain_of(name) for name in CONTEST}) == []


# ---- the rule for names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Shih_tzu", "Shih tzu"),
        ("German_short-haired_pointer", "German short-haired pointer"),
        ("  two__underscores_ ", "two underscores"),
        ("200-n000008-Airedale", "Airedale"),
        ("n02085936-Maltese_dog", "Maltese dog"),
        ("017.Cardinal", "Cardinal"),
        ("101", "101"),
        ("4Runner", "4Runner"),
        ("HerbaceousVegetation", "Herbaceous Vegetation"),
        ("McLaren", "McLaren"),
        ("Volvo_C30_Hatchback_2012", "2012 Volvo C30 Hatchback"),
        ("route_1066", "route 1066"),
        ("中华田园犬", "中华田园犬"),
    ],
)
def test_the_rule(name, words):
    assert read_by_rule(name) == words


def test_a_given_domain_decides_what_is_cut_off():
    seed = load_prompts("seed")
    assert seed.class_name("golden_retriever", domain="") == "golden retriever"
    assert seed.class_name("My_birds_great_tit", domain="My_birds") == "great tit"
    assert seed.class_name("tench") == "tench"
    assert seed.texts("golden_retriever", domain="Thu-dog") == ["a photo of golden retriever, a category of a dog"]


@pytest.mark.parametrize("name", ["Animal_", "Animal___", "", "_", "Animal_-"])
@pytest.mark.parametrize("which", ["seed", "jclip"])
def test_a_name_that_is_meaningless_is_refused(which, name):
    with pytest.raises(DataError, match="has no letter or digit"):
        load_prompts(which).class_name(name)


def test_the_refusal_of_a_meaningless_name_speaks_of_a_domain_only_if_there_is_one():
    with pytest.raises(DataError, match=r"'Animal_-' has no letter or digit after its domain\. Name it <Domain>_"):
        load_prompts("seed").class_name("Animal_-")
    with pytest.raises(DataError, match=r"'🐱' has no letter or digit\. Name it in words, or give --class-names FILE"):
        load_prompts("seed").class_name("🐱", domain="")


@given(st.text(max_size=40))
def test_class_names_are_clean_whatever_the_list_holds(name):
    prompts = load_prompts_once()
    try:
        words = prompts.class_name(name)
    except DataError:
        rest = name.split("_", 1)[-1]
        assert not any(letter.isalnum() for letter in rest)
        return
    assert words == " ".join(words.split()) != ""
    assert "_" not in words
    assert prompts.texts(name) == [template.replace("{}", words) for template in prompts.templates["default"]]


def load_prompts_once(cache: list[PromptSet] = []) -> PromptSet:  # noqa: B006 - hypothesis calls it a hundred times
    if not cache:
        cache.append(load_prompts("seed"))
    return cache[0]


# ---- a user's file


def test_the_example_of_the_readme_works(user_file):
    readme = (PROMPTS / "README.md").read_text(encoding="utf-8")
    how_to, _, _ = readme.partition("\n## ImageNet's class names\n")
    assert len(how_to.splitlines()) <= 40
    (example,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    prompts = load_prompts(user_file(example))
    assert prompts.texts("Flowers_snapdragon_2") == [
        "a photo of snapdragon, a type of flower",
        "a close-up photo of the petals of snapdragon",
    ]
    assert prompts.texts("Food-101_pho") == ["a photo of Vietnamese pho soup, a type of food"]
    assert prompts.texts("Thu-dog_Shiba_Dog") == load_prompts("seed").texts("Thu-dog_Shiba_Dog")
    assert prompts.name == "mine.yaml"


def test_a_set_without_base_stands_alone(user_file):
    prompts = load_prompts(str(user_file('\ufefftemplates:\n  default: ["an  x-ray\\n of {}"]\r\n')))
    assert dict(prompts.templates) == {"default": ("an x-ray of {}",)}
    assert prompts.names == "spelled"
    assert prompts.texts("Thu-dog_Pekinese") == ["an x-ray of Pekingese"]


def test_names_with_braces_are_filled_in_once(user_file):
    prompts = load_prompts(user_file('templates: {default: ["a {} b"]}'))
    assert prompts.texts("X_{}y") == ["a {}y b"]


REFUSED = {
    "": "mapping at the top level",
    "- a": "mapping at the top level",
    "just text": "mapping at the top level",
    "templates: [a": "not valid YAML",
    "a: b: c": "not valid YAML",
    "\x00": "not valid YAML",
    "template: {default: ['{}']}": "Did you mean 'templates'",
    "7: x": "unknown key 7",
    "names: spelt": "Did you mean 'spelled'",
    "names: [raw]": "'names' is",
    "templates: x": "'templates' is not a mapping",
    "templates: {Animal: ['a {}']}": "no 'default'",
    "templates: {default: []}": "not a list",
    "templates: {default: 'a {}'}": "not a list",
    "templates: {default: [3]}": "which is not text",
    "templates: {default: [no]}": "which is not text",
    "templates: {default: [null]}": "which is not text",
    "templates: {default: ['a photo']}": "exactly one {}",
    "templates: {default: ['a {} and {}']}": "exactly one {}",
    "templates: {default: ['a {name} {}']}": "exactly one {}",
    "templates: {default: ['a {{}}']}": "exactly one {}",
    "templates: {default: ['a {}', 'b {}', 'A  {}']}": "twice",
    "templates: {default: ['a {}'], 12: ['a {}']}": "cannot be a domain",
    "templates: {default: ['a {}'], ' Cars': ['a {}']}": "cannot be a domain",
    "templates: {default: ['a {}'], default: ['b {}']}": "line 1: duplicate key 'default'",
    "base: sead": "Did you mean 'seed'",
    "base: [seed]": "is not a set in the prompts folder",
    "base: seed\nspellings: [a]": "spellings are not a mapping",
    "base: seed\nspellings: {a_b: 3}": "not text",
    "base: seed\nspellings: {3: b}": "not text",
    "base: seed\nspellings: {a_b: ' _ '}": "has no letter or digit",
    "base: jclip\nspellings: {a_b: c}": "no effect",
    "base: seed\nnames: 2012-13-45": "cannot be read",
    "base: &x seed": "anchors",
    "base: !!python/name:os.system ''": "tags",
    "base: seed\n<<: {names: raw}": "merge keys",
    "? [a]\n: b": "not valid YAML",
    "x: " + "[" * 50: "levels deep",
    "base: seed\n---\nbase: seed": "not valid YAML",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_broken_file_is_refused_in_one_line_that_names_it(user_file, text):
    with pytest.raises(UsageError) as caught:
        load_prompts(user_file(text))
    assert REFUSED[text] in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bomb_of_aliases_is_refused_before_it_is_built(user_file):
    rows = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
    with pytest.raises(UsageError, match="line 1: anchors"):
        load_prompts(user_file("\n".join(rows)))


def test_bytes_that_are_no_text_and_large_files_are_refused(user_file):
    with pytest.raises(UsageError, match="UTF-8"):
        load_prompts(user_file(b"base: seed # \xff"))
    with pytest.raises(UsageError, match="1 MB"):
        load_prompts(user_file(b"base: seed\n" + b"#" * 1_000_000))


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"unknown prompt set 'ensembel'\. Did you mean 'ensemble'"):
        load_prompts("ensembel")
    for path in ("no/such.yaml", "such.yml", tmp_path, str(tmp_path), Path("seed"), "x" * 5000 + ".yaml", "a\0.yaml"):
        with pytest.raises(UsageError, match=r"no file|cannot read"):
            load_prompts(path)


def test_the_spellings_are_no_prompt_set():
    with pytest.raises(UsageError, match="unknown prompt set"):
        load_prompts("class_names")


def test_an_incomplete_copy_of_the_project_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("jclip_adapter.data.texts.prompts._FOLDER", tmp_path)
    with pytest.raises(SetupError, match="incomplete"):
        load_prompts("seed")


def test_a_base_stands_alone(monkeypatch, tmp_path, user_file):
    for name, text in {"class_names": "{}", "first": "base: second", "second": "base: first"}.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("jclip_adapter.data.texts.prompts._FOLDER", tmp_path)
    with pytest.raises(UsageError, match="has a base itself"):
        load_prompts("first")


# ---- checks against the data


def test_a_mistyped_domain_is_warned_about(user_file):
    prompts = load_prompts(user_file('base: seed\ntemplates: {flower: ["{}, a flower"], Birds: ["{}, a bird"]}'))
    (warning,) = prompts.check_domains(["Flowers", "Animal", "Food-101", ""])
    assert "'flower'" in warning and "'Flowers'" in warning and "\n" not in warning
    (warning,) = prompts.check_domains(["Thu_dog"])
    assert "'Thu-dog'" in warning
    assert prompts.check_domains(["Birds", "Galaxies", "flower"]) == []


def test_a_spelling_that_no_class_takes_is_warned_about(user_file):
    prompts = load_prompts(user_file("base: seed\nspellings: {Food-101_fo: pho soup, Stars_sun: our sun}"))
    (warning,) = prompts.check_names(["Food-101_pho", "Thu-dog_pug"])
    assert "'Food-101_fo'" in warning and "Did you mean 'Food-101_pho'?" in warning


def test_classes_of_one_text_are_warned_about(user_file):
    prompts = load_prompts(user_file("base: seed\nspellings: {Thu-dog_teddy: Toy Poodle}"))
    (warning,) = prompts.check_names(["Thu-dog_toy_poodle", "Thu-dog_teddy"])
    assert "'Thu-dog_toy_poodle' and 'Thu-dog_teddy' have the same text" in warning
    assert prompts.check_names(["a_toy", "b_toy"], ["", ""]) == []


# ---- the fingerprint


def test_the_fingerprint_changes_with_the_texts_and_with_nothing_else(user_file):
    def of(text):
        return load_prompts(user_file(text)).fingerprint()

    seed = load_prompts("seed").fingerprint()
    assert re.fullmatch(r"[0-9a-f]{64}", seed)
    assert of("base: seed  # a comment") == seed
    assert of((PROMPTS / "seed.yaml").read_text(encoding="utf-8")) == seed
    others = [
        of('base: seed\ntemplates: {default: ["{}"]}'),
        of('base: seed\ntemplates: {New: ["a photo of {}"]}'),
        of("base: seed\nspellings: {Animal_Seal: harbour seal}"),
        of("base: seed\nnames: raw"),
        of('templates: {default: ["a {}", "b {}"]}'),
        of('templates: {default: ["b {}", "a {}"]}'),
    ]
    assert len({seed, *others}) == len(others) + 1


def test_a_set_cannot_be_changed():
    seed = load_prompts("seed")
    with pytest.raises(TypeError):
        seed.templates["Animal"] = ("{}",)  # type: ignore[index]
    assert hash(seed) == hash(load_prompts("seed"))
    assert seed == load_prompts("seed")


# ---- anything at all

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.dates() | WORDS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))
FILES = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def load_or_refuse(path: Path) -> None:
    try:
        prompts = load_prompts(path)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert all(text.count("{}") == 1 for texts in prompts.templates.values() for text in texts)


@FILES
@given(data=st.binary(max_size=200) | st.text("{}[]&*!<:,-?|>'\"%@`#\n ab0_.~", max_size=60).map(str.encode))
def test_any_bytes_give_a_set_or_a_one_line_refusal(user_file, data):
    load_or_refuse(user_file(data))


@FILES
@given(
    raw=st.fixed_dictionaries(
        {},
        optional={
            "base": st.sampled_from(SETS) | LEAVES,
            "names": st.sampled_from(["spelled", "raw"]) | LEAVES,
            "templates": st.dictionaries(WORDS | st.just("default"), st.lists(WORDS | st.just("{}"))) | VALUES,
            "spellings": st.dictionaries(WORDS, LEAVES, max_size=3) | VALUES,
        },
    )
)
def test_any_values_give_a_set_or_a_one_line_refusal(user_file, raw):
    load_or_refuse(user_file(yaml.safe_dump(raw)))


SENTENCES = st.lists(
    st.from_regex(r"[a-z]{1,8}( [a-z]{1,8}){0,3}", fullmatch=True), min_size=1, max_size=3, unique=True
).map(lambda heads: [f"{head} {{}}, so" for head in heads])
DOMAINS = st.from_regex(r"[A-Z][a-z]{2,9}(-\d{1,3})?", fullmatch=True)


@FILES
@given(templates=st.dictionaries(DOMAINS, SENTENCES, max_size=4), default=SENTENCES, flow=st.booleans())
def test_what_is_written_is_read(user_file, templates, default, flow):
    written = {**templates, "default": default}
    prompts = load_prompts(user_file(yaml.safe_dump({"templates": written}, default_flow_style=flow)))
    assert {domain: list(texts) for domain, texts in prompts.templates.items()} == written
    for domain, texts in written.items():
        assert prompts.texts(f"{domain}_red_kite") == [text.replace("{}", "red kite") for text in texts]
