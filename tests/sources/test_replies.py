"""Which reply is which error."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from migrator.errors import (
    BadRequest,
    MemoryExhausted,
    NotFound,
    NotXml,
    ServerFailed,
    SourceError,
    SourceRefused,
    Throttled,
    UnexpectedReply,
    WrongTicket,
)
from migrator.sources.kayako.replies import (
    SEARCH_LIMIT,
    error_for,
    excerpt,
    find_document,
    is_noise,
    no_document,
)

WHAT = "attachment 12 of ticket 3"
SWIFT_404 = b"<html><body>&quot;X&quot; SWIFT App does not exist</body></html>"
NGINX_404 = b"<html>\r\n<head><title>404 Not Found</title></head><body>x</body></html>"
NOTICE = b'<div style="x"><font color="red">[Warning]: a (b.php:172)</font></div>\n'
FATAL = b"<b>Fatal error</b>:  Allowed memory size of 134217728 bytes exhausted"


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, b"NO SALT PROVIDED!", SourceRefused, "url_form"),
        (401, b"NO SALT PROVIDED!", SourceRefused, "post_max_size"),
        (401, b"FAILED TO AUTHENTICATE: Get", SourceRefused, "api_key and secret_key"),
        (401, b"", SourceRefused, "no text"),
        (403, b"", SourceRefused, "REST API > Settings"),
        (403, b" \n", SourceRefused, "switched off"),
        (403, b"Forbidden by mod_security", BadRequest, "mod_security"),
        (404, b"Ticket not Found", NotFound, "Ticket not Found"),
        (404, b"Attachment not Found", NotFound, "no longer"),
        (404, b"Ticket Post not found\n", NotFound, "no longer"),
        (404, b"Ticket note not Found", NotFound, "no longer"),
        (404, NOTICE + b"ATTACHMENT NOT FOUND", NotFound, "no longer"),
        (404, b"", NotFound, "no longer"),
        (404, SWIFT_404, UnexpectedReply, "Check url"),
        (404, NGINX_404, UnexpectedReply, "Check url"),
        (404, b"<html>Ticket not Found</html>", UnexpectedReply, "Check url"),
        (404, b"404 page not found", UnexpectedReply, "Check url"),
        (404, b"Not Found", UnexpectedReply, "Check url"),
        (400, b"Attachment does not belong to the specified ticket", WrongTicket, "another ticket"),
        (400, b"No Ticket ID Specified", BadRequest, "No Ticket ID"),
        (405, b"", BadRequest, "405"),
        (418, b"", BadRequest, "418"),
        (408, b"", ServerFailed, "408"),
        (425, b"", ServerFailed, "425"),
        (429, b"", Throttled, "slow down"),
        (500, b"", ServerFailed, "500"),
        (500, FATAL, MemoryExhausted, "memory_limit"),
        (502, b"<html><h1>502 Bad Gateway</h1></html>", ServerFailed, "502 Bad Gateway"),
        (503, b"", ServerFailed, "503"),
        (504, b"", ServerFailed, "504"),
        (100, b"", UnexpectedReply, "100"),
        (201, b"", UnexpectedReply, "201"),
        (204, b"", UnexpectedReply, "204"),
        (302, b"", SourceRefused, "nowhere"),
    ],
)
def test_statuses_and_texts(status: int, body: bytes, kind: type[SourceError], says: str) -> None:
    """Each status and text of Kayako, PHP, web servers and proxies is its own error."""
    error = error_for(status, {}, body, what=WHAT)
    assert type(error) is kind
    assert WHAT in str(error)
    assert says in str(error)


def test_redirects_name_the_new_address_without_its_query() -> None:
    """A redirect says which address to use, and hides what it carries."""
    headers = {"LOCATION": "https://u:p@new.example.com/api/index.php?e=/T&apikey=k&signature=s"}
    error = error_for(301, headers, b"", what=WHAT)
    assert type(error) is SourceRefused
    assert "https://new.example.com/api/index.php (HTTP 301)" in str(error)
    assert "put that address into url" in str(error)
    assert "apikey" not in str(error)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_seconds_or_a_date(status: int) -> None:
    """Both forms of Retry-After are read, and what is neither is None."""

    def after(value: str) -> float | None:
        error = error_for(status, {"retry-After": value}, b"", what=WHAT)
        assert isinstance(error, Throttled)
        return error.retry_after

    assert after(" 120 ") == 120.0
    assert after("0") == 0.0
    in_an_hour = after(formatdate(time.time() + 3600, usegmt=True))
    assert in_an_hour is not None
    assert 3500 < in_an_hour <= 3600
    assert after("Sun, 06 Nov 1994 08:49:37 GMT") == 0.0
    for odd in ("soon", "-5", "9" * 30, "", "Mon, 99 Foo 2020 00:00:00 GMT"):
        assert after(odd) is None


def test_excerpts_are_short_single_lines() -> None:
    """An excerpt has no tag, control character, line break or signature, and at most 200 signs."""
    body = b"<p>Router:\r\n\x1b[31m /T&apikey=secret</p>\x00\xff" + b"long " * 999
    text = excerpt(body)
    assert text.startswith("Router: [31m /T&apikey=*** \ufffdlong long")
    assert len(text) == 200
    assert text.isprintable()
    assert excerpt(b" \n<br/>") == ""


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", NotXml, "empty"),
        (b"Uncaught Exception\nRouter: /Tickets", NotXml, "begins: Uncaught Exception Router:"),
        (b"\n" + FATAL, MemoryExhausted, "memory"),
    ],
)
def test_a_good_status_without_document(body: bytes, kind: type[SourceError], says: str) -> None:
    """PHP's text at status 200 is an error that quotes it."""
    error = no_document(body, what=WHAT)
    assert type(error) is kind
    assert WHAT in str(error)
    assert says in str(error)


@pytest.mark.parametrize(
    ("reply", "start"),
    [
        (b"<tickets>", 0),
        (b"<tickets/>", 0),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<tickets>", 4),
        (b"noise <?xml a?> <?xml version='1.0'?><tickets >", 16),
        (NOTICE + b"<tickets>", len(NOTICE)),
        (b"<ticketsearch><tickets>", 14),
        (b"<ticketsearch>", None),
        (b"<tickets", None),
        (b"<?xml version='1.0'?>noise<tickets>", None),
        (b"-<?xml version='1.0'?>\n<!-- - -->\n<?xml-stylesheet href='a'?><!----><tickets>", 1),
        (b"<?xml version='1.0'?><!-- a --><!-- <tickets> --><tickets>", None),
        (b"<?xml version='1.0'?><!-- a --><!DOCTYPE tickets><tickets>", None),
        (b"<?xml-stylesheet ?><tickets>", 19),
        (b"<?xml version='1.0'?><!DOCTYPE tickets><tickets>", None),
        (b"<!doctype html><tickets>", None),
        (b"<HTML><body><tickets>", None),
        (b" " * SEARCH_LIMIT + b"<tickets>", None),
    ],
)
def test_where_a_document_begins(reply: bytes, start: int | None) -> None:
    """At the last declaration before the root, else at the root; never in a page or after a DTD."""
    assert find_document(reply, ("tickets",)) == start


def test_white_space_is_no_noise() -> None:
    """A byte order mark and white space around a document are not worth a note."""
    assert not is_noise(b"\xef\xbb\xbf \r\n\t")
    assert is_noise(b" . ")


DEPRECATED = (
    b"<br />\n<b>Deprecated</b>:  Return type of SWIFT_Router::getIterator() should either be "
    b"compatible with IteratorAggregate::getIterator(): Traversable, or the "
    b"#[\\ReturnTypeWillChange] attribute should be used to temporarily suppress the notice in "
    b"<b>/var/www/__swift/library/Router/class.SWIFT_Router.php</b> on line <b>120</b><br />\n"
)
PLAIN = (
    b"\nWarning: mysqli_query(): (HY000/2006): MySQL server\nhas gone away in /a.php on line 3\n"
)
MISSING = (
    b"<b>Warning</b>:  Missing argument 2 for X::Get(), called in /a.php on line 5 and defined in "
    b"<b>/b.php</b> on line <b>7</b><br />\n"
)
NEW_KAYAKO = (
    b"\nWarning\nRouter: /Tickets/TicketAttachment/3/12\nmail(): Failed to connect to mailserver "
    b"in "
    b"./__swift/library/Mail/class.SWIFT_Mail.php on line 12\n" + b"=" * 150 + b"\n"
)
XDEBUG = (
    b"<br />\n<font size='1'><table class='xdebug-error xe-notice' dir='ltr' border='1'>\n<tr><th>"
    b"<span>( ! )</span> Notice: x in /a.php on line <i>3</i></th></tr>\n"
    b"<tr><th>Call Stack</th></tr>\n<tr><td>1</td><td>0.0001</td><td>{main}( )</td></tr>\n"
    b"</table></font>\n"
)
TRACE = (
    b"PHP Fatal error:  Uncaught Exception: mail in /a.php:12\nStack trace:\n#0 /a.php(3): f()\n"
    b"#1 {main}\n  thrown in /a.php on line 12\n"
)
NOISES = [
    NOTICE,
    DEPRECATED,
    DEPRECATED * 20,
    PLAIN,
    MISSING,
    NEW_KAYAKO,
    XDEBUG,
    TRACE,
    NOTICE + DEPRECATED + PLAIN,
    b"<!-- served by web2 -->\r\n",
    b"\xef\xbb\xbf\xef\xbb\xbf",
    b"\xef\xbb\xbf" + PLAIN,
    b"Router: /Tickets/TicketAttachment/3/12\r\n",
    b"=" * 200 + b"\n",
    b"PHP Notice:  Undefined index: x in /a.php on line 3\n",
]
SENTENCES = [
    (404, b"Ticket not Found", NotFound),
    (404, b"Attachment not Found", NotFound),
    (400, b"Attachment not Found", NotFound),
    (404, b"Ticket Post not found", NotFound),
    (404, b"Ticket note not Found", NotFound),
    (400, b"Attachment does not belong to the specified ticket", WrongTicket),
    (404, b"Attachment does not belong to the specified ticket", WrongTicket),
    (404, b"", NotFound),
    (403, b"", SourceRefused),
    (400, b"No Ticket ID Specified", BadRequest),
]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("status", "sentence", "kind"), SENTENCES)
def test_noise_around_an_error_changes_nothing(
    noise: bytes, status: int, sentence: bytes, kind: type[SourceError]
) -> None:
    """Before and after Kayako's sentence, or in the place of none, warnings say nothing."""
    plain = error_for(status, {}, sentence, what=WHAT)
    assert type(plain) is kind
    for body in (noise + sentence, sentence + b"\n" + noise, noise + sentence + b"\n" + noise):
        error = error_for(status, {}, body, what=WHAT)
        assert type(error) is kind
        if sentence:
            assert str(error) == str(plain), "the sentence is quoted, not the warning"


@pytest.mark.parametrize(("status", "sentence", "kind"), [one for one in SENTENCES if one[1]])
def test_a_sentence_may_be_wrapped_in_xml(
    status: int, sentence: bytes, kind: type[SourceError]
) -> None:
    """Some versions and proxies dress an error as a document, with CDATA or without."""
    for text in (sentence, b"<![CDATA[" + sentence + b"]]>"):
        body = b'<?xml version="1.0"?>\n<error>\n<message>' + text + b"</message>\n</error>"
        assert type(error_for(status, {}, body, what=WHAT)) is kind
        assert type(error_for(status, {}, DEPRECATED + body, what=WHAT)) is kind


@pytest.mark.parametrize(
    "body",
    [
        b"<h1>Attachment not Found</h1>\n<p>The page that you asked for is not here.</p>",
        b"<title>x</title>Attachment not Found",
        b"<p>Attachment not Found</p>",
        b"<center>Ticket not Found</center><hr>nginx",
        b"Sorry: Attachment not Found",
        b"Attachment not Found on this server",
        b"Attachment not Found\nThe file was moved. Please ask the webmaster.",
        b'{"error": "Attachment not Found"}',
        b"File not Found",
        b"<error/>",
        b"<error><code>12</code></error>",
        b"<img src='404.png'>",
        b"<br />\n<b>Note</b>: Attachment not Found",
        b"No input file specified.",
    ],
)
def test_words_of_others_are_no_sentence_of_kayako(body: bytes) -> None:
    """A page or a text that merely holds such words says nothing about a file."""
    assert type(error_for(404, {}, body, what=WHAT)) is UnexpectedReply
    assert type(error_for(404, {}, NOTICE + body, what=WHAT)) is UnexpectedReply


def test_noise_is_quoted_where_nothing_else_is_said() -> None:
    """A failure of which only PHP speaks is told in its words."""
    error = error_for(500, {}, PLAIN, what=WHAT)
    assert "MySQL server has gone away" in str(error)
    assert "MySQL" not in str(error_for(500, {}, PLAIN + b"Overloaded", what=WHAT))


def test_a_missing_salt_is_heard_through_noise() -> None:
    """The advice for it is the right one, however much PHP says before it."""
    error = error_for(401, {}, DEPRECATED * 3 + b"NO SALT PROVIDED!", what=WHAT)
    assert "url_form" in str(error)


@pytest.mark.parametrize("status", [200, 400, 403, 404, 405, 500, 503])
@pytest.mark.parametrize(
    "text",
    [
        b"Access denied by rule 12 & more",
        b"<![CDATA[Access denied by rule 12 & more]]>",
        b"Access denied by rule 12 &amp; more",
        b"Access&#32;denied by rule&#x20;12 &amp; more",
        b"<![CDATA[Access denied]]> by rule <![CDATA[12 & more]]>",
        b"<text><![CDATA[Access denied]]></text>\n<text>by <b>rule</b> 12 &amp; more</text>",
        b"<![CDATA[<p>Access denied by rule 12</p> & more]]>",
    ],
)
def test_the_text_of_an_error_is_shown(text: bytes, status: int) -> None:
    """With CDATA or without, nested, with entities or tags: what is said is quoted."""
    for body in (
        b"<error><message>" + text + b"</message></error>",
        b"<?xml version='1.0'?>\n<response>\n<error code='7'>" + text + b"</error>\n</response>",
    ):
        error = no_document(body, what=WHAT) if status == 200 else None
        error = error or error_for(status, {}, body, what=WHAT)
        assert "Access denied by rule 12 & more" in str(error)


def test_endless_noise_is_judged_in_linear_time() -> None:
    """Sixteen kilobytes of the worst, as many as are read of an error, are no trap."""
    for piece in (
        b"Warning: a\n",
        b"Router: a\n",
        b"<!--",
        b"<table class='xdebug",
        b"(a:",
        b"[W a]: ",
    ):
        body = (piece * 16_384)[:16_384]
        assert isinstance(error_for(404, {}, body, what=WHAT), SourceError)
