"""Signatures as Kayako checks them, and texts that hold no secret."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote

import pytest

from migrator.sources.kayako.signing import Credentials, Veil, new_salt, scrub_query, signature

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


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "of an address": lambda text: quote(text, safe=""),
    "of an address, lower": lambda text: re.sub(
        "%..", lambda found: found[0].lower(), quote(text, safe="")
    ),
    "of an address, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "of a form": quote_plus,
    "of HTML": lambda text: "".join(char if char.isalnum() else f"&#{ord(char)};" for char in text),
    "of HTML, all": lambda text: "".join(f"&#x{ord(char):x};" for char in text),
    "of JSON": lambda text: text.replace("/", "\\/"),
    "of JSON, all": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "of HTML in an address": lambda text: quote("".join(f"&#{ord(char)};" for char in text)),
    "every character of an address": lambda text: "".join(f"%{ord(char):02X}" for char in text),
}
PLACES = ["{}", "/login/{}/x", "It says: '{}'", "a={}&b=1", "<td>{}</td>", "signature={}", "[{}]"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_secrets_are_hidden_however_they_are_spelled(spelling: str, place: str) -> None:
    """Keys, passwords and signatures vanish behind any escapes, with and without their names."""
    credentials = Credentials(KEY, SECRET, "web", "pass/word+with=signs")
    signed = signature(SECRET, "x" * 32)
    for secret in (KEY, SECRET, credentials.http_password, signed):
        said = credentials.scrub(place.format(SPELLINGS[spelling](secret)))
        assert "***" in said
        for text in (said, html.unescape(unquote(unquote(said)))):
            assert secret not in text
            assert secret[:12] not in text


@pytest.mark.parametrize(
    "text",
    [
        "100% of &amp; %41 \\u0041 \\/ stay",
        "https://help.example.com/api/index.php?e=/Tickets/Ticket/ListAll/1,2/3/-1/-1/100/0",
        "attachment 7 of ticket 3: the reply ends in the middle of its document.",
    ],
)
def test_texts_without_secrets_stay(text: str) -> None:
    """Nothing is unescaped, or hidden, where there is nothing to hide."""
    assert Credentials(KEY, SECRET).scrub(text) == text


def test_the_body_of_a_list_shows_no_secret() -> None:
    """A server that writes our request into a subject writes it into no ledger."""
    credentials = Credentials(KEY, SECRET)
    signed = credentials.sign()
    target = f"/api?e=/x&apikey={KEY}&salt={signed['salt']}&signature={quote(signed['signature'])}"
    body = f"<subject>{target} {signed['signature']} {SECRET}</subject>".encode()
    said = credentials.hide(body, target.encode())
    for secret in (KEY, SECRET, *signed.values(), quote(signed["signature"])):
        assert secret.encode() not in said
    assert said.startswith(b"<subject>/api?e=/x&apikey=***&salt=***&signature=***")


def test_a_stream_hides_what_a_body_hides() -> None:
    """Wherever its pieces end, nothing of a key or a signature is passed on, and all else is."""
    credentials = Credentials("api-key-0123456789", "secret-key-0123456789")
    target = b"/api/index.php?e=/x&apikey=a&salt=" + b"5" * 32 + b"&signature=" + b"Q" * 43 + b"%3D"
    body = b"<a>api-key-0123456789</a>" + b"5" * 32 + b"api-key-012345678" + b"Q" * 43 + b"=</b>"
    for size in (1, 2, 16, 17, 18, 31, len(body)):
        veil = Veil(credentials)
        veil.begin(target)
        pieces = [veil.feed(body[at : at + size]) for at in range(0, len(body), size)]
        assert b"".join((*pieces, veil.close())) == credentials.hide(body, target)
