"""Messages do not show passwords."""

import pytest

from vattn.errors import without_password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host/path", "https://me:***@host/path"),
        ("https://me:se:cr@et@host", "https://me:***@host"),
        ("postgresql+psycopg2://me:a/b@host:5432/db", "postgresql+psycopg2://me:***@host:5432/db"),
        ("postgresql:///db?user=me&password=secret&sslmode=on", "postgresql:///db?user=me&password=***&sslmode=on"),
        ("https://host/?access_token=secret", "https://host/?access_token=***"),
        ("cannot reach https://me:secret@host: refused", "cannot reach https://me:***@host: refused"),
        ("http://host:8265/a@b", "http://host:8265/a@b"),
        ("https://me@host", "https://me@host"),
        ("sqlite:////data/a:b@c.db", "sqlite:////data/a:b@c.db"),
        ("auto", "auto"),
    ],
)
def test_a_password_is_replaced_by_stars_and_nothing_else_is(text: str, shown: str) -> None:
    assert without_password(text) == shown
