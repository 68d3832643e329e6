"""`dfs doctor`: what is wrong as seen from this machine, each with the command or step that mends it."""

import sys
from dataclasses import asdict

import click

from dfs.cli.session import Session, remote_command
from dfs.cli.show import print_json, table, wrapped
from dfs.diagnosis import Facts, diagnose, summary
from dfs.protocol.errors import EXIT_OK, EXIT_SOME_FAILED, EXIT_UNREACHABLE

SKEW_UNSEEN_S = 2.0
"""The Date of an answer is cut to the second, and servers keep it for one: a clock that is right differs by as much."""


@remote_command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor_command(session: Session, as_json: bool) -> None:
    """Find what is wrong, and say what to do about it.

    Asks every server from this machine, and looks at clocks, versions, disks and replicas. Exit code 0: no problem,
    perhaps warnings; 1: problems; 5: no namenode answers.
    """
    facts = session.fs.admin.look()
    findings = diagnose(facts)
    if as_json:
        print_json(
            {
                "summary": summary(facts, findings),
                "findings": [asdict(finding) for finding in findings],
                "namenodes": [asdict(probe) for probe in facts.namenodes.values()],
                "datanodes": [{"id": name, **asdict(probe)} for name, probe in sorted(facts.datanodes.items())],
            }
        )
    else:
        lines = [*wrapped([summary(facts, findings)]), ""]
        for finding in findings:
            lines += wrapped([f"{finding.level}: {finding.about}: {finding.what}"])
            lines += wrapped([finding.fix], indent="    ")
        lines += ["", *_probes(facts)] if findings else _probes(facts)
        sys.stdout.write("\n".join(lines) + "\n")
    code = _exit_code(facts, problems=any(finding.level == "problem" for finding in findings))
    if code != EXIT_OK:
        sys.stdout.flush()
        raise click.exceptions.Exit(code)


def _exit_code(facts: Facts, *, problems: bool) -> int:
    if facts.status is None:
        return EXIT_UNREACHABLE
    return EXIT_SOME_FAILED if problems else EXIT_OK


def skew_text(skew_s: float) -> str:
    """How far a clock is from ours; what HTTP's whole seconds can't show is no difference. Pure."""
    return "same" if abs(skew_s) <= SKEW_UNSEEN_S else f"{skew_s:+.0f} s"


def _probes(facts: Facts) -> list[str]:
    """What each server answered, as a table."""
    rows = [["server", "url", "answer", "time", "clock"]]
    asked = [*(("namenode", probe) for probe in facts.namenodes.values()), *sorted(facts.datanodes.items())]
    for name, probe in asked:
        rows.append(
            [
                name,
                probe.url,
                str(probe.status) if probe.status else "none",
                f"{probe.seconds * 1000:.0f} ms",
                "" if probe.skew_s is None else skew_text(probe.skew_s),
            ]
        )
    return table(rows, right=(3, 4))
