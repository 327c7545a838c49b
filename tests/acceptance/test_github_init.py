"""What `github init` writes into a repository, and the workflows that the documentation shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.test_reports_github import read_outputs

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
USES = f"acme/migrator@{40 * '1'}"
PINNED = re.compile(r"^(\./\.github/workflows/[\w.-]+|[\w.-]+/[\w./-]+@[0-9a-f]{40})$")


def init(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [BIN / "migrator", "github", "init", "--uses", USES, "--folder", folder, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def every_use(document: object) -> list[str]:
    if isinstance(document, dict):
        here = [str(document["uses"])] if "uses" in document else []
        return here + [one for value in document.values() for one in every_use(value)]
    return [one for value in document for one in every_use(value)] if isinstance(document, list) else []


def test_a_repository_gets_all_workflows_pinned_and_with_their_scripts(tmp_path: Path) -> None:
    done = init(tmp_path)
    assert done.returncode == 0, done.stderr
    written = {path.name: path for path in (tmp_path / ".github").rglob("*.*")}
    ours = {path.name for path in (ROOT / ".github" / "workflows").glob("*db-*.yml")}
    assert ours | {"recovery.sh", "validate.sh", "comment.sh"} == set(written)
    for name, path in written.items():
        if path.suffix == ".yml":
            text = path.read_text()
            assert all(PINNED.match(one) for one in every_use(yaml.safe_load(text))), name
            assert all((tmp_path / one).exists() for one in re.findall(r"\.github/scripts/[\w.-]+", text)), name
        else:
            assert os.access(path, os.X_OK), name
            assert path.read_text() == (ROOT / ".github" / "scripts" / name).read_text()


def test_environments_are_the_users_own_and_nothing_is_overwritten(tmp_path: Path) -> None:
    assert init(tmp_path, "-e", "live").returncode == 0
    workflows = {path.name: path.read_text() for path in (tmp_path / ".github" / "workflows").iterdir()}
    assert {name for name in workflows if name.startswith("db-migrate")} == {"db-migrate-live.yml"}
    assert not any(re.search(r"\b(dev|qa|staging|production)\b", text) for text in workflows.values())
    again = init(tmp_path, "-e", "live")
    assert again.returncode == 3
    assert "--force" in again.stderr


@pytest.mark.slow
def test_what_is_written_and_what_the_pages_show_is_clean(tmp_path: Path) -> None:
    assert init(tmp_path).returncode == 0
    folder = tmp_path / ".github" / "workflows"
    others = {"vendor.gitlab-ci": re.compile(r"^stages:", re.M), "vendor.compose-spec": re.compile(r"^services:", re.M)}
    shown = dict.fromkeys(["vendor.github-workflows", *others], 0)
    for page in (ROOT / "docs").glob("*.md"):
        for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            if re.search(r"^jobs:", block, re.MULTILINE):
                shown["vendor.github-workflows"] += 1
                (folder / f"shown-{page.stem}.yml").write_text(block)
            for schema, begins in others.items():
                if begins.search(block):
                    shown[schema] += 1
                    file = tmp_path / f"{schema}.yml"
                    file.write_text(block)
                    argv = [BIN / "check-jsonschema", "--builtin-schema", schema, file]
                    valid = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
                    assert valid.returncode == 0, valid.stdout
    assert all(shown.values()), shown
    checked = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *folder.glob("*.yml")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    audited = subprocess.run(
        [BIN / "zizmor", "--offline", "--no-progress", "--config", ROOT / ".github" / "zizmor.yml", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert audited.returncode == 0, audited.stdout


@pytest.mark.parametrize(
    ("ref", "environment", "changelog"),
    [
        ("refs/heads/develop", "dev", "changelogs/2/changelog.sql"),
        ("refs/heads/test", "qa", "changelogs/2/changelog.sql"),
        ("refs/heads/release/3", "staging", "changelogs/2/changelog.sql"),
        ("refs/heads/hotfix/4", "staging", "changelogs/2/changelog.sql"),
        ("refs/tags/v2.0.0", "production", "changelogs/2/changelog.sql"),
        ("refs/tags/v2.0.1", "production", ""),  # nothing below changelogs/ since the tag before
    ],
)
def test_a_branch_is_an_environment(tmp_path: Path, ref: str, environment: str, changelog: str) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=kim", "-c", "user.email=kim@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    for number, tag in ((1, "v1.0.0"), (2, "v2.0.0"), (2, "v2.0.1")):
        release = tmp_path / "changelogs" / str(number)
        release.mkdir(parents=True, exist_ok=True)
        (release / "changelog.sql").write_text(f"select {number};\n")
        git("add", ".")
        git("commit", "--allow-empty", "-qm", tag)
        git("tag", tag)
    if ref.startswith("refs/tags/"):
        git("checkout", "-q", ref.removeprefix("refs/tags/"))
    text = (ROOT / "docs" / "github.md").read_text()
    (shown,) = (
        block for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if "which:" in block
    )
    step = next(one for one in yaml.safe_load(shown)["jobs"]["which"]["steps"] if one.get("id") == "find")
    output = tmp_path / "output"
    env = {"PATH": os.environ["PATH"], "GITHUB_REF": ref, "GITHUB_OUTPUT": str(output)}
    subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=tmp_path, env=env, check=True, timeout=30)
    assert read_outputs(output) == {"environment": environment, "changelog": changelog}
