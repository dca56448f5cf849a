"""Signatures as Kayako checks them, and texts that hold no secret."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from migrator.sources.kayako.signing import Credentials, new_salt, scrub_query, signature

SECRET = "ZmIyNzQ0/NWMt+OWQ3Yg=="
KEY = "0ab1c2d3-0000-4444-8888-123456789abc"


def test_signature_is_the_known_vector() -> None:
    """A known secret and salt give the signature that a real server accepts."""
    assert signature("secretkey", "1234567890") == "VKjt8M54liY6xq1UuhUYH5BFp1RUqHekqytgLPrVEA0="


def test_secret_is_used_as_literal_text() -> None:
    """A secret that looks like base64 is not decoded before it signs."""
    decoded = base64.b64encode(b"secretkey").decode()
    assert signature(decoded, "1234567890") != signature("secretkey", "1234567890")


def test_salts_are_fresh_letters_and_digits() -> None:
    """A salt has 32 letters and digits and does not come twice."""
    salts = {new_salt() for _ in range(50)}
    assert len(salts) == 50
    assert all(len(salt) == 32 and salt.isascii() and salt.isalnum() for salt in salts)


def test_sign_gives_the_three_parameters() -> None:
    """Signing names key, salt and the signature of just that salt."""
    credentials = Credentials(KEY, SECRET)
    assert credentials.sign("abc") == {
        "apikey": KEY,
        "salt": "abc",
        "signature": signature(SECRET, "abc"),
    }
    first, second = credentials.sign(), credentials.sign()
    assert first["salt"] != second["salt"]
    assert first["signature"] == signature(SECRET, first["salt"])


def test_repr_shows_neither_key() -> None:
    """Neither key can reach a log through repr or str."""
    credentials = Credentials(KEY, SECRET)
    assert KEY not in f"{credentials!r}{credentials}"
    assert SECRET not in f"{credentials!r}{credentials}"


def test_scrub_hides_keys_in_every_form() -> None:
    """Keys vanish plain, percent-encoded in either case, and upper-cased."""
    credentials = Credentials(KEY, SECRET)
    encoded = quote(SECRET, safe="")
    text = f"a {KEY} b {KEY.upper()} c {SECRET} d {encoded} e {encoded.lower()} f"
    assert credentials.scrub(text) == "a *** b *** c *** d *** e *** f"


def test_scrub_hides_the_beginning_of_a_key() -> None:
    """A key that a quotation cuts short vanishes, too; a short one hides nothing else."""
    text = f"the server says: {KEY[:14]}… and {SECRET[:13]}"
    assert Credentials(KEY, SECRET).scrub(text) == "the server says: *** and ***"
    assert Credentials("abcdefghijklmn", "xyz").scrub("abcdefghijkl xy") == "abcdefghijkl xy"


def test_scrub_hides_signed_values_of_others() -> None:
    """The values of apikey, salt and signature vanish whoever's they are."""
    text = 'GET /x?e=/T&apikey=k1&salt=s1&signature=a%2Bb%3D "quoted" APIKEY%3Dk2&count=5'
    expected = 'GET /x?e=/T&apikey=***&salt=***&signature=*** "quoted" APIKEY%3D***&count=5'
    assert scrub_query(text) == expected
    assert Credentials(KEY, SECRET).scrub(text) == expected


@pytest.mark.parametrize(
    "dump",
    [
        "Array ( [apikey] => {} [salt] => {} [signature] => {} )",
        'array(1) {{ ["apikey"]=> string(36) "{}" ["salt"]=> string(9) "{}" ["signature"]=>"{}" }}',
        '{{"apikey": "{}", "salt":"{}", "signature":"{}"}}',
        "{{'apikey': '{}', 'salt': '{}', 'signature': '{}'}}",
        "{{&quot;apikey&quot;:&quot;{}&quot;,&quot;salt&quot;:&quot;{}&quot;,&quot;signature&quot;:&quot;{}&quot;}}",
    ],
)
def test_scrub_hides_signed_values_in_dumps(dump: str) -> None:
    """Signed values vanish from a dump of our request, as PHP and JSON write it."""
    signed = dump.format("0ab1-cd", "Zs9A8", r"VKjt8M54\/iY6xq1Uuh+YH5BFp1=")
    assert scrub_query(signed) == dump.format("***", "***", "***")
    assert scrub_query("NO SALT PROVIDED! signature: wrong") == "NO SALT PROVIDED! signature: wrong"


def test_scrub_without_keys_leaves_the_text() -> None:
    """Empty keys do not turn a text into asterisks."""
    assert Credentials("", "").scrub("nothing to hide") == "nothing to hide"


def test_a_short_key_hides_no_words_around_it() -> None:
    """A short key is hidden where it stands alone, and leaves longer words readable."""
    keys = Credentials("k", "secret")
    text = "check secret_key, kayako.url and the key; got k and secret&salt=1"
    told = "check secret_key, kayako.url and the key; got *** and ***&salt=***"
    assert keys.scrub(text) == told
