"""Lists as Kayako writes them, and as broken servers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from migrator.errors import MemoryExhausted, NotXml, Truncated, UnexpectedReply
from migrator.kayako import lists
from migrator.kayako.records import Attachment, Department, Post, Ticket, TicketStatus

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'
WHAT = "the list"


def attachments(name: bytes = b"<![CDATA[a.txt]]>", head: bytes = HEAD) -> bytes:
    """Write a list of one attachment as Kayako writes it."""
    return (
        head + b"<attachments>\n<attachment>\n<id><![CDATA[7]]></id>\n"
        b"<ticketid><![CDATA[3]]></ticketid>\n<ticketpostid><![CDATA[5]]></ticketpostid>\n"
        b"<filename>" + name + b"</filename>\n<filesize><![CDATA[541]]></filesize>\n"
        b"<filetype><![CDATA[image/gif]]></filetype>\n<dateline><![CDATA[1296645496]]></dateline>\n"
        b"</attachment>\n</attachments>"
    )


ATTACHMENT = Attachment(7, 3, 5, "a.txt", 541, "image/gif", 1296645496)


def one(body: bytes) -> Attachment:
    """Read a list of one attachment."""
    (found,) = lists.parse_attachments(body, what=WHAT)
    return found


def test_attachments() -> None:
    """A list of attachments is read in full."""
    assert lists.parse_attachments(attachments(), what=WHAT) == [ATTACHMENT]


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b"<attachments>\n</attachments>",
        b"<attachments />",
        b"<attachments/>",
        HEAD + b"<attachments\n/>\nWarning: </b>",
        HEAD + b'<attachments a="b"/>',
        HEAD + b"""<attachments a="/>" b='">'></attachments >""",
    ],
)
def test_no_attachments(body: bytes) -> None:
    """A ticket without attachments has an empty list, however it is written."""
    assert lists.parse_attachments(body, what=WHAT) == []


def test_attachments_without_ticket_get_the_one_asked() -> None:
    """Rows that name no ticket get the caller's, absent numbers are 0, odd children ignored."""
    body = b"<attachments><attachment><id>7</id><new><id>9</id></new><filesize /></attachment>"
    found = lists.parse_attachments(body + b"</attachments>", what=WHAT, ticket_id=3)
    assert found == [Attachment(id=7, ticket_id=3, post_id=0)]


def test_a_bare_attachment_is_a_list_of_one() -> None:
    """A reply whose root is the attachment itself is read too."""
    assert one(b"<attachment><id>7</id><ticketid>3</ticketid></attachment>").ticket_id == 3


def test_negative_size_counts_as_none() -> None:
    """A size that overflowed on the server does not reach sums."""
    assert (
        one(
            b"<attachments><attachment><id>7</id><filesize>-5</filesize></attachment></attachments>"
        ).filesize
        == 0
    )


@pytest.mark.parametrize("number", [b"abc", b"9223372036854775808", b"", b"0", b"-1"])
def test_a_row_without_proper_id_is_unexpected(number: bytes) -> None:
    """No row gets into the ledger under an id that is none."""
    with pytest.raises(UnexpectedReply):
        one(b"<attachments><attachment><id>" + number + b"</id></attachment></attachments>")


@pytest.mark.parametrize(
    ("name", "filename", "notes"),
    [
        (b"<![CDATA[a]]]]><![CDATA[>b]]>", "a]]>b", ()),
        (b"a &amp; &lt;b&gt; &#8364;", "a & <b> €", ()),
        (b"a<!-- x -->b<?pi?>c", "abc", ()),
        (b"<![CDATA[gr\xfcn.txt]]>", "grün.txt", ("repaired_name",)),
        (b"<![CDATA[a\x0bb.txt]]>", "ab.txt", ("repaired_name",)),
        ("<![CDATA[a\ufffe\ufdd0b]]>".encode(), "ab", ("repaired_name",)),
        (b"<![CDATA[a\n\tb]]>", "a b", ("repaired_name",)),
        (b"a&#xFFFE;&#1;b<![CDATA[&#1;]]>", "ab&#1;", ("repaired_name",)),
        (b"<![CDATA[<?xml <attachments> ../x\"']]>", "<?xml <attachments> ../x\"'", ()),
    ],
)
def test_names(name: bytes, filename: str, notes: tuple[str, ...]) -> None:
    """Names come out as sent, or cleaned with a note; nothing in them is markup."""
    found = one(attachments(name))
    assert (found.filename, found.notes) == (filename, notes)
    assert found.filesize == 541


def test_only_the_repaired_name_is_noted() -> None:
    """A broken byte elsewhere in the document says nothing about a name."""
    body = attachments().replace(b"image/gif", b"image/g\xefif")
    assert one(body) == Attachment(7, 3, 5, "a.txt", 541, "image/gïif", 1296645496)


@pytest.mark.parametrize("name", ["iso-8859-1", "windows-1252", "us-ascii"])
def test_declared_encodings(name: str) -> None:
    """A declared single-byte encoding is honoured; in ASCII the byte had to be guessed."""
    head = f'<?xml version="1.0" encoding="{name}"?>'.encode()
    found = one(attachments(b"gr\xfcn", head))
    assert found.filename == "grün"
    assert found.notes == (("repaired_name",) if name == "us-ascii" else ())


@pytest.mark.parametrize(
    ("before", "after", "notes"),
    [
        (b"\xef\xbb\xbf\r\n", b"\n\n", ()),
        (b"[Warning]: <b>x</b> & so on\n", b"", ("noise_around_xml",)),
        (b"", b"\nWarning: x in /a.php <b>&", ("noise_around_xml",)),
    ],
)
def test_noise_is_dropped_and_noted(before: bytes, after: bytes, notes: tuple[str, ...]) -> None:
    """Text around the document costs a note, white space not even that."""
    assert one(before + attachments() + after).notes == notes


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Uncaught Exception",
        b"<html><body>Login</body></html>",
        b"<html><attachments></attachments></html>",
        HEAD + b"<!DOCTYPE attachments [<!ENTITY a 'b'>]>" + attachments(head=b""),
        attachments().replace(b"</id>", b"</di>", 1),
        attachments(b"&undefined;"),
        attachments() + attachments(),
        HEAD + b"<attachments>\n<!DOCTYPE a [<!ENTITY x SYSTEM '/etc/passwd'>]></attachments>",
        attachments(head=b'<?xml version="1.0" encoding="utf-16"?>'),
    ],
)
def test_what_is_not_xml(body: bytes) -> None:
    """Text, pages, broken XML, DTDs and two documents are never a list."""
    with pytest.raises(NotXml, match=WHAT):
        lists.parse_attachments(body, what=WHAT)


def test_a_cut_list_is_never_a_list() -> None:
    """No beginning of a document is read as a whole one."""
    body = attachments(b"<![CDATA[</attachments>]]>")
    for cut in range(len(body)):
        with pytest.raises((Truncated, NotXml)):
            lists.parse_attachments(body[:cut], what=WHAT)
    with pytest.raises(Truncated):
        lists.parse_attachments(attachments()[:-1], what=WHAT)
    with pytest.raises(Truncated):
        lists.parse_attachments(b"<attachments ", what=WHAT)


def test_memory_that_ran_out_in_a_list() -> None:
    """PHP's fatal error is told from a cut reply, before and inside the document."""
    fatal = b"\nFatal error: Allowed memory size of 5 bytes exhausted"
    for body in (fatal, attachments()[:-80] + fatal):
        with pytest.raises(MemoryExhausted):
            lists.parse_attachments(body, what=WHAT)


def test_a_large_text_node_is_read() -> None:
    """A list with a text beyond libxml2's default limit of 10,000,000 bytes is read."""
    text = b"x" * 10_000_001
    body = b"<posts><post><id>1</id><contents><![CDATA[" + text + b"]]></contents></post></posts>"
    (post,) = lists.parse_posts(body, what=WHAT)
    assert (len(post.text), post.notes) == (lists.TEXT_LIMIT, ("cut_text",))


def test_damaged_text_is_kept_clean_with_a_note() -> None:
    """A Latin-1 byte and a control character in one post leave its text readable, and noted."""
    posts = b"".join(
        b"<post><id>%d</id><contents><![CDATA[%b]]></contents></post>" % (n, text)
        for n, text in enumerate((b"caf\xe9\x01 <b>", "grün\n".encode()), 1)
    )
    body = HEAD + b"<tickets><ticket id='7'><posts>" + posts + b"</posts></ticket></tickets>"
    (ticket,) = lists.parse_tickets(body, what=WHAT)
    assert [(post.text, post.notes) for post in ticket.posts] == [
        ("café <b>", ("repaired_text",)),
        ("grün\n", ()),
    ]


def test_departments() -> None:
    """Departments of all apps are read; an old reply without app means tickets."""
    body = (
        HEAD + b"<departments><department><id><![CDATA[1]]></id><title><![CDATA[Sales & Co\n]]>"
        b"</title><type><![CDATA[private]]></type><module>livechat</module><app>livechat</app>"
        b"<parentdepartmentid>4</parentdepartmentid><usergroups>\n<id>9</id></usergroups>"
        b"</department><department><id>2</id><title /></department></departments>"
    )
    assert lists.parse_departments(body, what=WHAT) == [
        Department(1, "Sales & Co ", "livechat", "private", 4),
        Department(2, ""),
    ]


def test_statuses() -> None:
    """Statuses come with their department and whether they resolve."""
    body = (
        b"<ticketstatuses><ticketstatus><id>1</id><title>Open</title><departmentid>0</departmentid>"
        b"<markasresolved>0</markasresolved></ticketstatus><ticketstatus><id>3</id><title>Closed"
        b"</title><departmentid>2</departmentid><markasresolved>1</markasresolved></ticketstatus>"
        b"</ticketstatuses>"
    )
    assert lists.parse_statuses(body, what=WHAT) == [
        TicketStatus(1, "Open"),
        TicketStatus(3, "Closed", 2, resolved=True),
    ]


def test_tickets_with_posts() -> None:
    """A ticket is read with its posts, whose texts keep their lines."""
    body = (
        HEAD + b'<tickets>\n<ticket id="2" flagtype="0">\n<displayid><![CDATA[OLJ-171-16930]]>'
        b"</displayid><departmentid>4</departmentid><statusid>1</statusid><ownerstaffname>B\tO</ownerstaffname>"
        b"<fullname>J\nD</fullname><email>j@example.com</email><subject>S</subject>"
        b"<creationtime>10</creationtime><lastactivity>20</lastactivity>"
        b'<note type="ticket" id="1">text</note><posts><post><id>8</id><dateline>11</dateline>'
        b"<fullname>J</fullname><email>j@example.com</email><hasattachments>1</hasattachments>"
        b"<creator>2</creator><ishtml>1</ishtml><isprivate /><contents><![CDATA[a\n\x0bb]]>"
        b"</contents></post></posts></ticket>\n</tickets>"
    )
    post = Post(8, 2, 11, 2, "J", "j@example.com", True, False, True, "a\nb", ("repaired_text",))
    assert lists.parse_tickets(body, what=WHAT) == [
        Ticket(2, "OLJ-171-16930", 4, 1, "S", "J D", "j@example.com", 10, 20, (post,), "B O")
    ]


@pytest.mark.parametrize(
    ("ticket", "ticket_id"),
    [
        (b'<ticket id="5"><displayid>9</displayid></ticket>', 5),
        (b"<ticket><id>6</id></ticket>", 6),
        (b"<ticket><ticketid>7</ticketid></ticket>", 7),
        (b"<ticket><displayid>8</displayid></ticket>", 8),
    ],
)
def test_the_id_of_a_ticket(ticket: bytes, ticket_id: int) -> None:
    """The attribute counts, then a child, then a sequential display id."""
    (found,) = lists.parse_tickets(b"<tickets>" + ticket + b"</tickets>", what=WHAT)
    assert found.id == ticket_id


@pytest.mark.parametrize("ticket", [b"", b"<displayid>ABC-123-45678</displayid>"])
def test_a_ticket_without_id_is_unexpected(ticket: bytes) -> None:
    """A mask is not an id."""
    with pytest.raises(UnexpectedReply, match="ticket without id"):
        lists.parse_tickets(b"<tickets><ticket>" + ticket + b"</ticket></tickets>", what=WHAT)


def test_posts_ignore_their_attachments() -> None:
    """The list of posts reads the text of a post, not the contents of its attachments."""
    body = (
        b"<posts><post><ticketpostid>8</ticketpostid><ticketid>2</ticketid><contents>text</contents>"
        b"<attachments><attachment><id>1</id><contents>QUJD</contents></attachment></attachments>"
        b"</post></posts>"
    )
    assert lists.parse_posts(body, what=WHAT) == [Post(8, 2, text="text")]


def test_ticket_count() -> None:
    """The count is read, and its absence is not 0."""
    body = HEAD + b"<tickets>\n<totalcount><![CDATA[47]]></totalcount>\n</tickets>"
    assert lists.parse_ticket_count(body, what=WHAT) == 47
    with pytest.raises(UnexpectedReply, match="totalcount"):
        lists.parse_ticket_count(b"<tickets></tickets>", what=WHAT)


@pytest.mark.parametrize(
    "parse",
    [
        lists.parse_departments,
        lists.parse_statuses,
        lists.parse_tickets,
        lists.parse_posts,
        lists.parse_attachments,
        lists.parse_ticket_count,
    ],
)
def test_no_list_reads_another_ones_reply(parse: Callable[..., Any]) -> None:
    """Each list wants its own root."""
    with pytest.raises(NotXml):
        parse(HEAD + b"<notes><note>x</note></notes>", what=WHAT)
