"""The generated parts of the documentation are complete."""

import re

import pytest

from docs.tools.drawing import svg
from docs.tools.figures import FIGURES, FOLDER
from docs.tools.hooks import config_pages
from docs.tools.reference import config_classes, config_key, fields
from tests.docs.blocks import PAGES, ROOT
from vattn.base import Config
from vattn.modules import ModuleConfig

#: Whose fields are sections of the spec, and explained by prose.
WHOLE = ("TrialConfig",)

every_config = pytest.mark.parametrize("config", config_classes().values(), ids=config_classes())


@pytest.mark.medium
@every_config
def test_every_config_has_a_table(config: type[Config]) -> None:
    assert config_key(config) in (*config_pages(), *WHOLE)


@every_config
def test_every_key_has_a_meaning(config: type[Config]) -> None:
    without = [key for key, _, _, meaning in fields(config) if not meaning]

    assert not without or config.__name__ in WHOLE


@pytest.mark.parametrize("kind", ModuleConfig.kinds)
def test_every_mechanism_has_a_page_with_its_figure(kind: str) -> None:
    page = (ROOT / "docs" / "mechanisms" / f"{kind}.md").read_text()

    assert f"(../assets/mechanisms/{kind}.svg)" in page
    assert f"<!-- fields: ModuleConfig {kind} -->" in page
    assert all(f"\n## {section}\n" in page for section in ("What it computes", "Options", "Cost", "In a spec"))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_as_its_script_says(name: str) -> None:
    assert (FOLDER / f"{name}.svg").read_text() == svg(FIGURES[name])


def test_every_decision_is_dated_and_has_three_parts() -> None:
    for path in (ROOT / "docs" / "decisions").glob("2*.md"):
        text = path.read_text()

        assert f"\nDate: {path.name[:10]}\n" in text, path.name
        assert re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE) == ["Decision.", "Instead of.", "Because."], path.name


def test_links_between_the_files_of_the_root_lead_somewhere() -> None:
    for page in (page for page in PAGES if page.parent == ROOT):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_about_120_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
