"""Access control lists as HDFS has them: parsing, changing, showing. Pure.

They are kept and shown, and mean nothing more: dfs does not know who its callers are, so nothing is refused because of
them, nor is a default list handed down. As in HDFS the mode holds the entries of the owner, of others, and the mask,
and the rest is a list beside it, as `getfacl` prints it.
"""

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from dfs.protocol.messages import Entry
from dfs.protocol.webhdfs import bad_parameter
from dfs.protocol.webhdfs_errors import ACL, RemoteException
from dfs_namenode.webhdfs.attributes import ACL_ATTRIBUTE

ENTRIES_MAX = 32
"""Of one scope, as in HDFS."""
_ENTRY = re.compile(r"(default:)?(user|group|mask|other):([^:,]*)(?::([r-][w-][x-])?)?", re.IGNORECASE)
_KINDS = ("user", "group", "mask", "other")
_BITS = (("r", 4), ("w", 2), ("x", 1))


@dataclass(frozen=True)
class AclEntry:
    """One line of a list. `bits` are None where an entry is only named, to be removed."""

    default: bool
    kind: str
    name: str
    bits: int | None

    @property
    def key(self) -> tuple[bool, str, str]:
        """What there may be one of."""
        return self.default, self.kind, self.name

    def __str__(self) -> str:
        bits = self.bits or 0
        shown = "".join(letter if bits & bit else "-" for letter, bit in _BITS)
        return f"{'default:' if self.default else ''}{self.kind}:{self.name}:{shown}"


@dataclass(frozen=True)
class Acl:
    """All that says who may do what, in one order: those of a scope together, owner, users, groups, mask, others."""

    entries: tuple[AclEntry, ...]

    def mode(self, old: int) -> int:
        """The mode that goes with it. The bits above the last nine stay."""
        user, group, other = self._bits("user"), self._bits("group"), self._bits("other")
        mask = next((one.bits for one in self.entries if one.key == (False, "mask", "")), None)
        return (old & ~0o777) | user << 6 | (group if mask is None else mask or 0) << 3 | other

    def _bits(self, kind: str) -> int:
        return next((one.bits or 0 for one in self.entries if one.key == (False, kind, "")), 0)

    def stored(self) -> str:
        """What is kept beside the mode; "" if the mode says it all."""
        beyond = [one for one in self.entries if one.default or one.name or one.kind == "mask"]
        if not beyond:
            return ""
        return ",".join(str(one) for one in self.shown())

    def shown(self) -> list[AclEntry]:
        """What an AclStatus lists: all that the mode does not hold."""
        if not any(one.default or one.name or one.kind == "mask" for one in self.entries):
            return []
        has_mask = any(one.key == (False, "mask", "") for one in self.entries)
        return [
            one
            for one in self.entries
            if one.default or one.name or (one.kind == "group" and has_mask)
        ]  # fmt: skip


def parse_spec(text: str, *, with_bits: bool) -> list[AclEntry]:
    """The entries of an `aclspec`. Raises InvalidRequest.

    with_bits  whether entries must say what they allow; else they must not
    """
    entries = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        found = _ENTRY.fullmatch(part)
        if found is None or (found[4] is None) is with_bits:
            raise bad_parameter("aclspec", f"{part!r} is not an entry of an access control list")
        kind, name = found[2].lower(), found[3]
        if name and kind in ("mask", "other"):
            raise bad_parameter("aclspec", f"{part!r}: a {kind} has no name")
        bits = None if found[4] is None else _bits_of(found[4].lower())
        entries.append(AclEntry(found[1] is not None, kind, name, bits))
    if not entries:
        raise bad_parameter("aclspec", "it has no entries")
    if len({one.key for one in entries}) < len(entries):
        raise RemoteException(ACL, "Invalid ACL: multiple entries with same scope, type and name.")
    return entries


def _bits_of(text: str) -> int:
    return sum(bit for letter, bit in _BITS if letter in text)


def acl_of(entry: Entry) -> Acl:
    """The whole list of a file or directory."""
    stored = entry.attributes.get(ACL_ATTRIBUTE, "")
    kept = parse_spec(stored, with_bits=True) if stored else []
    user, group, other = entry.mode >> 6 & 7, entry.mode >> 3 & 7, entry.mode & 7
    access = [one for one in kept if not one.default]
    base = [AclEntry(False, "user", "", user), AclEntry(False, "other", "", other)]
    # With entries beside the mode, its middle is the mask.
    base.append(AclEntry(False, "mask" if access else "group", "", group))
    return _ordered([*base, *kept])


def _ordered(entries: Iterable[AclEntry]) -> Acl:
    return Acl(tuple(sorted(entries, key=lambda one: (one.default, _KINDS.index(one.kind), one.name))))


def merged(acl: Acl, spec: Sequence[AclEntry], *, is_directory: bool) -> Acl:
    """With these entries added or changed."""
    entries = {one.key: one for one in acl.entries} | {one.key: one for one in spec}
    changed = {one.default for one in spec}
    return _completed(entries.values(), spec, changed=changed, is_directory=is_directory)


def replaced(acl: Acl, spec: Sequence[AclEntry], *, is_directory: bool) -> Acl:
    """The entries of `spec` instead; a scope that it does not mention stays."""
    mentioned = {one.default for one in spec}
    kept = [one for one in acl.entries if one.default not in mentioned]
    return _completed([*kept, *spec], spec, changed=mentioned, is_directory=is_directory)


def without(acl: Acl, spec: Sequence[AclEntry], *, is_directory: bool) -> Acl:
    """Without these entries."""
    gone = {one.key for one in spec} & {one.key for one in acl.entries}
    kept = [one for one in acl.entries if one.key not in gone]
    if any((one.default, "mask", "") in gone for one in kept if one.name):
        raise RemoteException(ACL, "Invalid ACL: mask is required and cannot be deleted.")
    changed = {default for default, _, _ in gone}
    return _completed(kept, [], changed=changed, is_directory=is_directory)


def without_default(acl: Acl) -> Acl:
    return Acl(tuple(one for one in acl.entries if not one.default))


def bare(acl: Acl) -> Acl:
    """Only what a mode holds: the owner, the group, others."""
    return Acl(tuple(one for one in acl.entries if not one.default and not one.name and one.kind != "mask"))


def _completed(entries: Iterable[AclEntry], spec: Sequence[AclEntry], *, changed: Set[bool], is_directory: bool) -> Acl:
    """Copies what a default list must have, and computes the masks that `spec` does not give.

    changed  the scopes that are not as before: in the others a mask stays as it was given
    """
    found = {one.key: one for one in entries}
    has_default = any(default for default, _, _ in found)
    if has_default and not is_directory:
        raise RemoteException(ACL, "Invalid ACL: only directories may have a default ACL.")
    if any((False, kind, "") not in found for kind in ("user", "group", "other")):
        raise RemoteException(ACL, "Invalid ACL: the user, group and other entries are required.")
    if has_default:
        for kind in ("user", "group", "other"):
            found.setdefault((True, kind, ""), AclEntry(True, kind, "", found[False, kind, ""].bits))
    given = {one.key for one in spec}
    for default in (False, True):
        scope = [one for one in found.values() if one.default is default]
        if len(scope) > ENTRIES_MAX:
            raise RemoteException(
                ACL, f"Invalid ACL: ACL has {len(scope)} entries, which exceeds maximum of {ENTRIES_MAX}."
            )
        mask = (default, "mask", "")
        if mask in given or (mask in found and default not in changed):
            continue
        if not any(one.name for one in scope):
            found.pop(mask, None)
            continue
        union = 0
        for one in scope:
            if one.kind == "group" or (one.kind == "user" and one.name):
                union |= one.bits or 0
        found[mask] = AclEntry(default, "mask", "", union)
    return _ordered(found.values())


def acl_status(entry: Entry, owner: str, group: str, permission: str) -> dict[str, object]:
    """An AclStatus."""
    return {
        "entries": [str(one) for one in acl_of(entry).shown()],
        "owner": owner,
        "group": group,
        "permission": permission,
        "stickyBit": bool(entry.mode & 0o1000),
    }
