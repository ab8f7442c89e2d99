"""Test sessions of nox.

`nox -s tests` tests every supported Python, `nox -s lowest` the lowest dependency versions. `nox -s
lint` and `nox -s docs` check style and pages. A session whose Python is not installed is skipped.
"""

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

nox.options.sessions = ["lint", "tests", "lowest"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the newest dependencies."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the tests against the lowest versions that pyproject.toml allows.

    mypy is left out: older libraries declare other types.
    """
    session.install("-e", ".[dev]", "--constraint", "requirements/lowest.txt")
    session.run("python", "-m", "pytest", "--ignore=tests/test_typing.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and types with the locked versions."""
    session.install("-e", ".[dev]", "--constraint", "requirements/dev.lock")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a broken link is an error."""
    session.install("-e", ".[docs]", "--constraint", "requirements/dev.lock")
    session.run("mkdocs", "build", "--strict")
