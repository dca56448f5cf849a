"""The calls for custom fields: their definitions, and what tickets have in them."""

from __future__ import annotations

from migrator.sandbox.kayako import faults
from migrator.sandbox.kayako.calls import NO_TICKET, Ask, listing
from migrator.sandbox.kayako.messages import Reply, Value, XmlWriter, columns, text, valid, xml
from migrator.sandbox.kayako.model import FILE_FIELD, Attachment, CustomField, Helpdesk, number

_NOTICE = b"[Notice]: Undefined offset: %d (api/class.Controller_TicketCustomField.php:151)<br />\n"


def list_fields(ask: Ask) -> Reply:
    """List the definitions of all fields, of tickets or not, as attributes."""
    writer = XmlWriter()
    with writer.inside("customfields"):
        for row in ask.desk.custom_fields.values():
            named = columns(
                "customfieldid customfieldgroupid title fieldtype fieldname defaultvalue- "
                "isrequired usereditable staffeditable regexpvalidate- displayorder encryptindb "
                "description-",
                customfieldid=row.id,
                customfieldgroupid=row.group_id,
                title=row.title,
                fieldtype=row.kind,
                fieldname=row.name,
                displayorder=row.id,
                usereditable=1,
                staffeditable=1,
            )
            if "old_fields" not in ask.desk.switches:
                named["grouptype"] = ask.desk.field_groups[row.group_id].kind
            writer.value("customfield", **named)
    return listing(ask.desk, xml(writer))


def list_options(ask: Ask, field_id: str = "") -> Reply:
    """List the options of a field."""
    if field_id == "":
        return text(400, "No Custom Field ID Provided")
    found, writer = ask.desk.custom_fields.get(number(field_id) or 0), XmlWriter()
    linked = found is not None and found.kind == 9
    with writer.inside("customfieldoptions"):
        for n, option in enumerate(found.options if found else (), 1):
            named = columns(
                "customfieldoptionid customfieldid optionvalue displayorder isselected "
                "parentcustomfieldoptionid",
                customfieldoptionid=_option_id(int(field_id), n),
                customfieldid=field_id,
                optionvalue=option,
                displayorder=n,
                parentcustomfieldoptionid=_option_id(int(field_id), 1) if linked and n > 1 else 0,
            )
            writer.value("option", **named)
    return xml(writer)


def _option_id(field_id: int, n: int) -> int:
    return field_id * 10 + n


def list_groups(ask: Ask) -> Reply:
    """List the groups of fields."""
    writer = XmlWriter()
    with writer.inside("customfieldgroups"):
        for group in ask.desk.field_groups.values():
            named = columns(
                "customfieldgroupid title grouptype visibilitytype displayorder",
                customfieldgroupid=group.id,
                title=group.title,
                grouptype=group.kind,
                displayorder=group.id,
                visibilitytype=int(group.is_public),
            )
            writer.value("customfieldgroup", **named)
    return listing(ask.desk, xml(writer))


def get_values(ask: Ask, ticket_id: str) -> Reply:
    """Send the fields of a ticket, set or not, with the files in them.

    The ticket is found by mask and through merges too, but the values are asked for with the
    given text: a mask has none, and a merged id has those that the old ticket had.
    """
    desk, ticket = ask.desk, ask.desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    values = desk.field_values.get(number(ticket_id) or 0, {})
    files = {row: desk.hit(row) for row in values.values() if isinstance(row, Attachment)}
    if any(desk.effect_on(row) == "foreign_reply" and nth == 1 for row, nth in files.items()):
        values = next((v for key, v in desk.field_values.items() if v is not values), {})
    reply = xml(_document(desk, values, files))
    if "old_fields" in desk.switches:
        notices = (_NOTICE % key for key in desk.custom_fields if key not in values)
        reply = reply.noisy(before=b"".join(notices))
    for row, nth in files.items():
        reply = faults.afflict(reply, desk.effect_on(row), nth)
    return reply


def post_values(ask: Ask, ticket_id: str) -> Reply:
    """Set the fields of a ticket that a form has, and send all of them.

    A file replaces the one before it only if the form has a text of that name, too: otherwise both
    are lost.
    """
    desk, form, ticket = ask.desk, ask.request.form, ask.desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    values = desk.field_values.setdefault(ticket.id, {})
    for one in desk.custom_fields.values():
        group = desk.field_groups[one.group_id]
        given = {key: value for key, value in form.items() if key.partition("[")[0] == one.name}
        upload = ask.request.files.get(one.name)
        if not group.of_tickets or not group.is_public:
            continue
        if one.kind != FILE_FIELD and given:
            values[one.id] = _chosen(one, given)
        elif one.kind == FILE_FIELD and upload:
            values.pop(one.id, None)
            if given:
                desk.set_field(ticket.id, one.id, upload.name, upload.data)
    return get_values(ask, ticket_id)


def _chosen(one: CustomField, given: dict[str, str]) -> str:
    """Return what is kept of the values of a form: those of options are their ids."""
    options = {str(_option_id(one.id, n)): option for n, option in enumerate(one.options, 1)}
    chosen = [options.get(value, value) for value in given.values()]
    if one.kind in {4, 7}:
        return ", ".join(option.replace(",", "\\,") for option in chosen if option)
    return " &gt; ".join(filter(None, chosen)) if one.kind == 9 else chosen[-1]


def _document(
    desk: Helpdesk,
    values: dict[int, str | Attachment],
    files: dict[Attachment, int],
) -> XmlWriter:
    writer, old = XmlWriter(), "old_fields" in desk.switches
    with writer.inside("customfields"):
        for group in desk.field_groups.values():
            if group.of_tickets:
                order = {} if old else {"displayorder": group.id}
                with writer.inside("group", id=group.id, title=group.title, **order):
                    for one in desk.custom_fields.values():
                        if one.group_id == group.id:
                            _write_field(writer, desk, one, values.get(one.id, ""), files)
    return writer


def _write_field(
    writer: XmlWriter,
    desk: Helpdesk,
    one: CustomField,
    value: str | Attachment,
    files: dict[Attachment, int],
) -> None:
    old = "old_fields" in desk.switches
    attributes: dict[str, str | int] = {"id": one.id, "title": one.title, "type": one.kind}
    if not old:
        attributes["name"] = one.name
    inner: Value = ""
    if isinstance(value, Attachment):
        effect = desk.effect_on(value)
        if effect != "nameless":
            attributes["filename"] = valid(value.name)
        twice = old or "double_base64" in desk.switches
        inner = faults.field_contents(value, effect, files.get(value, 0), twice=twice)
    else:
        inner = value
    writer.value("field", inner, **attributes)
