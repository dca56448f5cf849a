"""Lists as Kayako writes them, and as broken servers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from migrator.errors import (
    MemoryExhausted,
    NotXml,
    PartialReply,
    SourceError,
    Truncated,
    UnexpectedReply,
)
from migrator.sources.base import Attachment, Department, Label, Note, Post, Ticket, TicketStatus
from migrator.sources.kayako import limits, lists

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
        (b"Warning: no mail from <unknown> in /a.php on line 3\n", b"", ("noise_around_xml",)),
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
        HEAD + b"<attachments>\n<!DOCTYPE a [<!ENTITY x SYSTEM '/etc/passwd'>]></attachments>",
        attachments(head=b'<?xml version="1.0" encoding="utf-16"?>'),
    ],
)
def test_what_is_not_xml(body: bytes) -> None:
    """Text, pages, broken XML without a row, and DTDs are never a list."""
    with pytest.raises(NotXml, match=WHAT):
        lists.parse_attachments(body, what=WHAT)


def test_a_cut_list_is_never_a_list() -> None:
    """No beginning of a document is read as a whole one."""
    body = attachments(b"<![CDATA[</attachments>]]>")
    for cut in range(len(body)):
        with pytest.raises((Truncated, NotXml, PartialReply)):
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


@pytest.mark.parametrize("order", [1, -1])
def test_memory_that_ran_out_beside_an_empty_list(order: int) -> None:
    """What PHP had no memory for is not nothing; a list that came with rows is one."""
    fatal = b"\nFatal error: Allowed memory size of 5 bytes exhausted\n"
    for empty in (b"<attachments>\n</attachments>", b"<attachments />"):
        with pytest.raises(MemoryExhausted):
            lists.parse_attachments(b"".join([empty, fatal][::order]), what=WHAT)
    assert one(attachments() + fatal).id == 7


def test_one_id_for_two_files_in_one_list_is_not_believed() -> None:
    """The list contradicts itself; the same row twice does not."""
    row = rows(b"a")
    body = listing(row + row.replace(b"[a]", b"[b]") + rows(b"a", b"c")[len(row) :])
    with pytest.raises(PartialReply, match="attachment 1 stands in it twice") as caught:
        lists.parse_attachments(body, what=WHAT, ticket_id=3)
    assert [one.filename for one in caught.value.rows] == ["a", "c"]
    assert {one.id for one in lists.parse_attachments(listing(row + row), what=WHAT)} == {1}


def test_a_large_text_node_is_read() -> None:
    """A list with a text beyond libxml2's default limit of 10,000,000 bytes is read."""
    text = b"x" * 10_000_001
    posts = b"<posts><post><id>1</id><contents><![CDATA[" + text + b"]]></contents></post></posts>"
    body = b"<tickets><ticket id='7'>" + posts + b"</ticket></tickets>"
    ((post,),) = [ticket.posts for ticket in lists.parse_tickets(body, what=WHAT)]
    assert (len(post.text), post.notes) == (limits.TEXT, ("cut_text",))


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
        b"<posts><post><id>8</id><dateline>11</dateline>"
        b"<fullname>J</fullname><email>j@example.com</email><hasattachments>1</hasattachments>"
        b"<creator>2</creator><ishtml>1</ishtml><isemailed>1</isemailed>"
        b"<isprivate /><contents><![CDATA[a\n\x0bb]]>"
        b"</contents></post></posts></ticket>\n</tickets>"
    )
    notes = ("repaired_text",)
    post = Post(
        8, 2, 11, 2, "J", "j@example.com", True, False, True, "a\nb", notes, is_emailed=True
    )
    assert lists.parse_tickets(body, what=WHAT) == [
        Ticket(2, "OLJ-171-16930", 4, 1, "S", "J D", "j@example.com", 10, 20, (post,), "B O")
    ]


NOTES = b"""<tickets><ticket id="2"><userid>5</userid><userorganizationid>3</userorganizationid>
<priorityid>2</priorityid><tags><![CDATA[a b]]></tags><isescalated>0</isescalated>
<watcher staffid="1" name="J"/>
<note type="ticket" id="7" ticketid="2" notecolor="3" creatorstaffid="4" forstaffid="9"
  creatorstaffname="Jane &amp; D" creationdate="1297842417"><![CDATA[one
<two>]]></note>
<note type="user" id="7" userid="5" notecolor="1" creatorstaffid="0" forstaffid="0"
  creatorstaffname="" creationdate="11"><![CDATA[<p>rude</p>]]></note>
<note type="userorganization" id="8" userorganizationid="3" notecolor="1" creatorstaffid="1"
  forstaffid="0" creatorstaffname="J" creationdate="n/a">pays late</note>
<note type="timetrack" id="7" ticketid="2" timeworked="300" timebillable="60" billdate="12"
  workdate="13" workerstaffid="2" workerstaffname="W" creatorstaffid="1" creatorstaffname="J"
  notecolor="1" />
<note id="9">old</note>
<note id="9" timeworked="60" timebillable="0" billdate="14">old track</note></ticket></tickets>"""


def test_notes_of_every_type() -> None:
    """Each note of a ticket's reply is read, told apart by its type, with all that it says."""
    (ticket,) = lists.parse_tickets(NOTES, what=WHAT)
    assert (ticket.user_id, ticket.organization_id) == (5, 3)
    watchers = [{"staffid": "1", "name": "J"}]
    assert ticket.details == {"priorityid": "2", "tags": "a b", "watcher": watchers}
    assert ticket.staff_notes == (
        Note(7, "ticket", 2, 1297842417, 4, "Jane & D", 9, 3, text="one\n<two>"),
        Note(7, "user", 5, 11, color=1, is_html=True, text="<p>rude</p>"),
        Note(8, "organization", 3, 0, 1, "J", color=1, text="pays late", notes=("odd_number",)),
        Note(7, "timetrack", 2, 12, 1, "J", 0, 1, 300, 60, 13, 2, "W"),
        Note(9, "ticket", 2, text="old"),
        Note(9, "timetrack", 2, 14, worked=60, text="old track"),
    )


ODD_NOTES = [b"<note>a</note>", b'<note id="x"/>', b'<note type="new" id="1"/>']


@pytest.mark.parametrize("note", ODD_NOTES)
def test_a_note_that_is_not_understood_is_told(note: bytes) -> None:
    """A note without id or of an unknown type costs itself only, and the reply is not whole."""
    body = NOTES.replace(b"<note id=", note + b"<note id=")
    with pytest.raises(PartialReply, match="a note without id, or of an unknown type") as caught:
        lists.parse_ticket(body, what=WHAT)
    (ticket,) = caught.value.rows
    assert len(ticket.staff_notes) == 6
    (listed,) = lists.parse_tickets(body, what=WHAT)  # which costs no row of a page
    assert listed == ticket
    assert listed.problems


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


def test_posts_that_are_numbered_by_ticket() -> None:
    """A post is known by the id that attachments name it by, wherever both are told."""
    post = (
        b"<post><id>%d</id><ticketpostid><![CDATA[%d]]></ticketpostid><creator>2</creator></post>"
    )
    posts = post % (2, 1495) + post % (1, 1488)
    body = b"<tickets><ticket id='277'><posts>" + posts + b"</posts></ticket></tickets>"
    (ticket,) = lists.parse_tickets(body, what=WHAT)
    assert [one.id for one in ticket.posts] == [1495, 1488]


def test_a_reply_of_staff_that_may_be_private() -> None:
    """Old versions do not say whether a reply is private: that is told, of staff alone."""
    post = b"<post><id>%d</id><creator>%d</creator>%s</post>"
    posts = [(1, 1, b""), (2, 2, b""), (3, 1, b"<isprivate>1</isprivate>"), (4, 1, b"<isprivate/>")]
    told = b"".join(post % one for one in posts)
    body = b"<tickets><ticket id='2'><posts>" + told + b"</posts></ticket></tickets>"
    (ticket,) = lists.parse_tickets(body, what=WHAT)
    assert [(one.is_private, one.notes) for one in ticket.posts] == [
        (False, ("unknown_privacy",)),
        (False, ()),
        (True, ()),
        (False, ()),
    ]


def test_posts_ignore_their_attachments() -> None:
    """A post of a ticket has its own text, not the contents of its attachments."""
    body = (
        b"<tickets><ticket id='2'><posts>"
        b"<post><ticketpostid>8</ticketpostid><ticketid>2</ticketid><contents>text</contents>"
        b"<attachments><attachment><id>1</id><contents>QUJD</contents></attachment></attachments>"
        b"</post></posts></ticket></tickets>"
    )
    (ticket,) = lists.parse_tickets(body, what=WHAT)
    assert ticket.posts == (Post(8, 2, text="text"),)


def test_ticket_count() -> None:
    """The count is read, and its absence is not 0."""
    body = HEAD + b"<tickets>\n<totalcount><![CDATA[47]]></totalcount>\n</tickets>"
    assert lists.parse_ticket_count(body, what=WHAT) == 47


@pytest.mark.parametrize(
    "body",
    [
        b"<tickets></tickets>",
        b"<tickets><totalcount /></tickets>",
        b"<tickets><totalcount>many</totalcount></tickets>",
        b"<tickets><totalcount>-1</totalcount></tickets>",
        b"<tickets><totalcount>0x1</totalcount></tickets>",
        b"<tickets><totalcount>5</totalcount><totalcount>5</totalcount></tickets>",
        b"<tickets><totalcount>5</totalcount><error>x</error></tickets>",
        b"<tickets>Warning<totalcount>5</totalcount></tickets>",
        b"<tickets><totalcount>5</totalcount></tickets><tickets/>",
        b"<tickets xmlns='urn:x'><totalcount>5</totalcount></tickets>",
        b"<totalcount>5</totalcount>",
        b'<tickets><ticket id="5"/></tickets>',
        b"<tickets><totalcount>5<b/></totalcount></tickets>",
    ],
)
def test_what_is_no_ticket_count(body: bytes) -> None:
    """A count stands alone in its root and is a plain number; its absence is not 0."""
    with pytest.raises(UnexpectedReply):
        lists.parse_ticket_count(body, what=WHAT)


@pytest.mark.parametrize(
    "parse",
    [
        lists.parse_departments,
        lists.parse_statuses,
        lists.parse_tickets,
        lists.parse_attachments,
        lists.parse_ticket_count,
    ],
)
def test_no_list_reads_another_ones_reply(parse: Callable[..., Any]) -> None:
    """Each list wants its own root."""
    with pytest.raises(NotXml):
        parse(HEAD + b"<notes><note>x</note></notes>", what=WHAT)


# What is not quite a list


def rows(*names: bytes, inner: bytes = b"") -> bytes:
    """Write rows 1, 2, ... as Kayako writes them."""
    return b"\n".join(
        b"<attachment>\n<id><![CDATA[%d]]></id>\n<ticketid><![CDATA[3]]></ticketid>\n"
        b"<filename><![CDATA[%b]]></filename>\n<filesize><![CDATA[5]]></filesize>\n"
        b"<dateline><![CDATA[9]]></dateline>\n</attachment>" % (number, name)
        for number, name in enumerate(names, 1)
    )


def listing(inner: bytes) -> bytes:
    """Write a list around rows."""
    return HEAD + b"<attachments>\n" + inner + b"\n</attachments>"


def partial(body: bytes, parse: Callable[..., Any] = lists.parse_attachments) -> PartialReply:
    """Read a list that is understood only in part."""
    with pytest.raises(PartialReply) as caught:
        parse(body, what=WHAT)
    return caught.value


ROW = b"<attachment><id>1</id></attachment>"


@pytest.mark.parametrize(
    "body",
    [
        b"<attachments xmlns='urn:x'>" + ROW + b"</attachments>",
        b"<x:attachments xmlns:x='urn:x'><x:attachment/></x:attachments>",
        b"<attachments xmlns:x='urn:x'><x:attachment><id>1</id></x:attachment></attachments>",
        b"<attachments><ATTACHMENT><id>1</id></ATTACHMENT></attachments>",
        b"<ATTACHMENTS></ATTACHMENTS><attachments/>",
        b"<attachments><error>The database has gone away</error></attachments>",
        b"<attachments>Warning: mysqli_query() in /a.php on line 3</attachments>",
        b"<attachments><div>[Warning]: x (a.php:3)</div></attachments>",
        b"<attachments><list>" + ROW + b"</list></attachments>",
        b"<attachments><![CDATA[" + ROW + b"]]></attachments>",
        b"<error><message>No</message></error><attachments/>",
        b"<response><attachments/></response>",
        b"<attachments/><error>No</error>",
        b"<attachments/>\n<attachment",
        b"<attachments>\x00</attachments>",
        "<attachments>\u00a0</attachments>".encode(),
        b"<attachments>&lt;attachment/&gt;</attachments>",
        b"<attachments><attachment xmlns='urn:x'><id>1</id></attachment></attachments>",
    ],
)
def test_what_is_no_row_is_no_empty_list(body: bytes) -> None:
    """A list without rows holds white space only: all else was not understood."""
    with pytest.raises((UnexpectedReply, NotXml), match=WHAT):
        lists.parse_attachments(body, what=WHAT)


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (listing(rows(b"a", b"b") + b"<error/>"), [1, 2]),
        (listing(rows(b"a") + b"Warning: x"), [1]),
        (listing(b"<![CDATA[x]]>" + rows(b"a")), [1]),
        (listing(rows(b"a") + b"<x:attachment xmlns:x='urn:x'/>"), [1]),
        (listing(rows(b"a") + b"<more>" + ROW + b"</more>"), [1]),
        (listing(rows(b"a").replace(b"</attachment>", ROW + b"</attachment>")), [1]),
        (b"<attachments/>\n" + rows(b"a", b"b"), [1, 2]),
        (b"<x:attachments xmlns:x='urn:x'>" + rows(b"a") + b"</x:attachments>", [1]),
        (b"<Attachments>" + rows(b"a") + b"</Attachments>", [1]),
        (listing(rows(b"a")) + b"\n" + listing(rows(b"b")), [1]),
        (listing(rows(b"a")) + b"\n<attachment><id>7</id></attachment>", [1, 7]),
        (listing(rows(b"a", b"b").replace(b"<![CDATA[2]]>", b"none")), [1]),
        (listing(rows(b"a", b"b").replace(b"<id><![CDATA[2]]></id>", b"")), [1]),
        (listing(rows(b"a", b"b").replace(b"</attachment>\n<attachment>", b"")), [1]),
        (
            listing(rows(b"a", b"b").replace(b"]]></dateline>\n</attachment>\n<attachment>", b"")),
            [1],
        ),
        (listing(rows(b"a", b"b")).replace(b"</attachment>\n<attachment>", b"</attachment>"), [1]),
    ],
)
def test_rows_beside_what_was_not_understood_are_kept(body: bytes, ids: list[int]) -> None:
    """The reply proves nothing, but the rows that can be read are given."""
    error = partial(body)
    assert [one.id for one in error.rows] == ids
    assert error.problems
    assert WHAT in str(error)


def test_comments_and_instructions_are_no_rows() -> None:
    """They do not count, wherever they stand."""
    body = listing(b"<!-- <attachment> --><?pi <x> ?>" + rows(b"a") + b"<!-- x -->")
    assert one(body).id == 1
    damaged = body.replace(b"</filename>", b"</b>")
    assert one(damaged).notes == ("odd_number", "odd_row")


def test_rows_of_another_ticket_are_none_of_this_list() -> None:
    """They are named and left out; a ticket that is none counts as not given."""
    body = listing(rows(b"a", b"b", b"c"))
    for none in (b"0", b"-9223372036854775808", b"n/a", b""):
        own = body.replace(b"<ticketid><![CDATA[3]]>", b"<ticketid><![CDATA[%b]]>" % none, 1)
        found = lists.parse_attachments(own, what=WHAT, ticket_id=3)
        assert [one.ticket_id for one in found] == [3, 3, 3]
    confused = body.replace(b"<ticketid><![CDATA[3]]>", b"<ticketid><![CDATA[9]]>", 1)
    with pytest.raises(PartialReply, match="attachment 1 is of ticket 9") as caught:
        lists.parse_attachments(confused, what=WHAT, ticket_id=3)
    assert [one.id for one in caught.value.rows] == [2, 3]


@pytest.mark.parametrize(
    ("field", "value", "record"),
    [
        (b"filesize", b"-5", Attachment(1, 3, 0, "a", 0, "", 9, ("odd_number",))),
        (b"filesize", b"5 KB", Attachment(1, 3, 0, "a", 0, "", 9, ("odd_number",))),
        (b"filesize", b"9" * 20, Attachment(1, 3, 0, "a", 0, "", 9, ("odd_number",))),
        (b"dateline", b"n/a", Attachment(1, 3, 0, "a", 5, "", 0, ("odd_number",))),
        (b"dateline", b"2010-03-12 10:43:00", Attachment(1, 3, 0, "a", 5, "", 0, ("odd_number",))),
        (b"dateline", b"253402300800", Attachment(1, 3, 0, "a", 5, "", 0, ("odd_number",))),
        (b"dateline", b"253402300799", Attachment(1, 3, 0, "a", 5, "", 253402300799)),
        (b"filesize", b"", Attachment(1, 3, 0, "a", 0, "", 9)),
    ],
)
def test_an_odd_number_costs_its_field(field: bytes, value: bytes, record: Attachment) -> None:
    """A size or a date that is none is 0, with a note; nothing else is lost."""
    body = rows(b"a", b"b")
    body = body.replace(b"<ticketid>", b"<ticketpostid>-7</ticketpostid><ticketid>")
    before, _, after = body.partition(b"<" + field + b"><![CDATA[")
    damaged = before + b"<" + field + b"><![CDATA[" + value + after[after.index(b"]]>") :]
    found = lists.parse_attachments(listing(damaged), what=WHAT)
    assert found == [record, Attachment(2, 3, 0, "b", 5, "", 9)]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"<statusid>0x1</statusid>", Ticket(5, last_activity=7)),
        (b"<departmentid>none</departmentid>", Ticket(5, department_id=-1, last_activity=7)),
        (b"<departmentid>-3</departmentid>", Ticket(5, department_id=-1, last_activity=7)),
        (b"<departmentid />", Ticket(5, last_activity=7)),
        (b"<creationtime>2010-03-12 10:43:00</creationtime>", Ticket(5, last_activity=7)),
    ],
)
def test_an_odd_number_costs_no_ticket(field: bytes, expected: Ticket) -> None:
    """What is no number is 0; a department that is none is not the trash."""
    body = (
        b'<tickets><ticket id="5">' + field + b"<lastactivity>7</lastactivity></ticket></tickets>"
    )
    assert lists.parse_tickets(body, what=WHAT) == [expected]
    odd = (
        b'<tickets><ticket id="5"><lastactivity>'
        + b"1" * 20
        + b"</lastactivity></ticket></tickets>"
    )
    assert lists.parse_tickets(odd, what=WHAT) == [Ticket(5)]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (b"<![CDATA[b]]></filename>", b"<![CDATA[b.txt</filename>", "b.txt"),
        (b"<![CDATA[b]]></filename>", b"a<b</filename>", ""),
        (b"<![CDATA[b]]></filename>", b"<![CDATA[b]]></file>", "b"),
        (b"<![CDATA[b]]></filename>", b"<![CDATA[b]]>", "b"),
        (b"<![CDATA[b]]></filename>", b"b]]></filename>", "b]]>"),
        (b"<![CDATA[2]]></id>", b"<![CDATA[2</id>", "b"),
        (b"<![CDATA[2]]></id>", b"<![CDATA[2]]></di>", "b"),
    ],
)
def test_a_damaged_row_costs_itself(old: bytes, new: bytes, name: str) -> None:
    """Its neighbours are read, and it is told with what can be read of it, above all its id."""
    body = listing(rows(b"a", b"b", b"c"))
    assert old in body
    found = lists.parse_attachments(body.replace(old, new, 1), what=WHAT, ticket_id=3)
    assert found == [
        Attachment(1, 3, 0, "a", 5, "", 9),
        Attachment(2, 3, 0, name, 0, found[1].filetype, 0, found[1].notes),
        Attachment(3, 3, 0, "c", 5, "", 9),
    ]
    assert found[1].notes[-2:] == ("odd_number", "odd_row")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_row_without_end_costs_itself(number: int) -> None:
    """A value or a row that does not end swallows none of the rows that follow."""
    body = listing(rows(b"a", b"b", b"c"))
    start = body.index(b"<id><![CDATA[%d]]>" % number)
    for old, new in ((b"9]]></dateline>", b"9</dateline>"), (b"</attachment>", b"")):
        damaged = body[:start] + body[start:].replace(old, new, 1)
        try:
            found = lists.parse_attachments(damaged, what=WHAT)
        except PartialReply as error:  # a list that ends within its last row may have been cut
            assert number == 3
            found = list(error.rows)
        odd = {one.id: "odd_row" in one.notes for one in found}
        assert odd == {1: number == 1, 2: number == 2, 3: number == 3}


def test_markup_within_a_name_is_noted() -> None:
    """A tag that nobody escaped is no part of a name, but its text is, and the name is doubted."""
    found = one(listing(rows(b"x").replace(b"<![CDATA[x]]>", b"a <b>bold</b> name")))
    assert (found.filename, found.notes) == ("a bold name", ("repaired_name",))
    sized = one(listing(rows(b"x").replace(b"<![CDATA[5]]>", b"5<b>6</b>")))
    assert (sized.filesize, sized.notes) == (0, ("odd_number",))


def test_damaged_tickets_are_doubted_and_named() -> None:
    """Their ids are told, so that they can be asked for one by one."""
    one_ticket = (
        b'<ticket id="%d" flagtype="0"><displayid><![CDATA[M-%d]]></displayid>'
        b"<departmentid><![CDATA[4]]></departmentid><subject><![CDATA[S]]></subject></ticket>"
    )
    body = b"<tickets>" + b"".join(one_ticket % (n, n) for n in (1, 2, 3)) + b"</tickets>"
    error = partial(body.replace(b"S]]></subject>", b"S</subject>", 1), lists.parse_tickets)
    assert [ticket.id for ticket in error.rows] == [1, 2, 3]
    assert error.doubted == {1}
    assert error.rows[0] == Ticket(1, "M-1", 4, subject="S")
    assert "ticket 1" in str(error)
    lost = partial(body.replace(b'<ticket id="2"', b'<ticket id="x"', 1), lists.parse_tickets)
    assert ([ticket.id for ticket in lost.rows], lost.lost) == ([1, 3], (1,))


def test_a_post_without_id_costs_itself() -> None:
    """The ticket and its other posts are given, and that one is missing is told."""
    body = (
        b'<tickets><ticket id="2"><posts><post><id>8</id><dateline>n/a</dateline></post>'
        b"<post><id>n/a</id></post></posts></ticket></tickets>"
    )
    error = partial(body, lists.parse_tickets)
    assert error.rows == (Ticket(2, posts=(Post(8, 2, notes=("odd_number",)),)),)


@pytest.mark.parametrize("lost", [b"</post>\n<post>", b"</ticket>\n<ticket id='3'>"])
def test_rows_that_lost_tags_join_are_told(lost: bytes) -> None:
    """What is well-formed all the same is not read as the first of two posts or tickets."""
    post = b"<post><id>%d</id><contents>%d</contents></post>"
    ticket = b"<displayid>A-%d</displayid>\n<posts>%b\n%b</posts>"
    tickets = [ticket % (n, post % (n, n), post % (n + 2, n)) for n in (2, 3)]
    whole = b"<tickets><ticket id='2'>" + b"</ticket>\n<ticket id='3'>".join(tickets)
    whole += b"</ticket></tickets>"
    assert lists.parse_tickets(whole, what=WHAT)
    with pytest.raises(PartialReply, match="several"):
        lists.parse_tickets(whole.replace(lost, b"", 1), what=WHAT)


@pytest.mark.parametrize("parse", [lists.parse_departments, lists.parse_statuses])
def test_no_department_or_status_is_dropped_silently(parse: Callable[..., Any]) -> None:
    """One without an id is told; one that is damaged otherwise is kept by its id."""
    root, row = (
        (b"departments", b"department")
        if parse is lists.parse_departments
        else (b"ticketstatuses", b"ticketstatus")
    )
    good = b"<%b><id>%d</id><title>T</title></%b>"
    body = b"<%b>" % root + b"".join(good % (row, n, row) for n in (1, 2)) + b"</%b>" % root
    error = partial(body.replace(b"<id>2</id>", b"<id>two</id>"), parse)
    assert [one.id for one in error.rows] == [1]
    found = parse(body.replace(b"</title>", b"</tilte>", 1), what=WHAT)
    assert [one.id for one in found] == [1, 2]


def test_a_list_full_of_damage_is_read_in_linear_time() -> None:
    """Values, comments and rows without end, ten thousand of each, are no trap."""
    for piece in (
        b"<attachment><id><![CDATA[",
        b"<attachment><!--",
        b"<attachment>",
        b"<?",
        b"<id>",
    ):
        body = b"<attachments>" + piece * 10_000 + b"</attachments>"
        with pytest.raises(SourceError):
            lists.parse_attachments(body, what=WHAT)


@pytest.mark.parametrize(
    ("kind", "body", "label"),
    [
        (
            "priority",
            (
                b"<ticketpriorities><ticketpriority><id>3</id><title><![CDATA[High]]></title>"
                b"<usergroupid>1</usergroupid><usergroupid>2</usergroupid></ticketpriority>"
                b"</ticketpriorities>"
            ),
            Label("priority", 3, "High"),
        ),
        (
            "type",
            b"<tickettypes><tickettype><id>2</id><title>Bug</title></tickettype></tickettypes>",
            Label("type", 2, "Bug"),
        ),
        (
            "staff",
            (
                b"<staffusers><staff><id>1</id><firstname>J</firstname><lastname>D</lastname>"
                b"<email>j@example.com</email></staff></staffusers>"
            ),
            Label("staff", 1, "J D", "j@example.com"),
        ),
    ],
)
def test_names_that_tickets_refer_to(kind: str, body: bytes, label: Label) -> None:
    """Priorities, types and staff are read with their names, and staff with its address."""
    assert lists.parse_labels(HEAD + body, kind=kind, what=WHAT) == [label]
