"""The namenode's page at `/`: what a person sees who opens its address in a browser. Pure: a status in, HTML out.

Separate from the doors because words and markup change for other reasons than HTTP does. One document without
scripts or anything from elsewhere; every value is escaped.
"""

from html import escape

from dfs.protocol.messages import DatanodeStatus, Status

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;"
    "border-bottom:1px solid #ccc}td.n,th.n{text-align:right}pre{background:#f3f3f3;padding:1rem;overflow:auto}"
)


def size_in_words(size: int) -> str:
    """Bytes in binary units, with three digits."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return (
        f"{size} B"
        if unit == 0
        else f"{amount:.3g} {_UNITS[unit]}"
        if amount < 1000
        else f"{amount:.0f} {_UNITS[unit]}"
    )


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many}"


def health_in_words(status: Status) -> str:
    """One sentence: is everything all right, and if not, what is wrong."""
    live = sum(node.state == "live" for node in status.datanodes)
    if not status.datanodes:
        return "No datanode has joined yet, so nothing can be stored."
    if live < status.write_min:
        return f"{live} of {len(status.datanodes)} datanodes are alive: too few to store anything."
    if status.missing:
        chunks = counted(status.missing, "chunk has", "chunks have")
        return f"{chunks} no good replica on a live datanode: files may be unreadable now."
    if live < len(status.datanodes):
        silent = len(status.datanodes) - live
        return f"Silent datanodes: {silent} of {len(status.datanodes)}. Everything else goes on."
    if status.under_replicated:
        chunks = counted(status.under_replicated, "chunk is", "chunks are")
        return f"All datanodes are alive; {chunks} being copied to have enough replicas."
    return "All datanodes are alive, and every chunk has its replicas."


def render_front_page(status: Status, host: str) -> str:
    """The page. `host` is what the browser calls this server; it goes into the commands that are shown."""
    url = escape(f"http://{host}" if host else "http://127.0.0.1:9870")
    rows = "".join(_row(node) for node in status.datanodes)
    modes = "".join(f"<p>Held back: {escape(mode)}</p>" for mode in status.safe_modes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>dfs</title>'
        f"<style>{_STYLE}</style></head><body>"
        f"<h1>dfs</h1><p>Cluster {escape(status.cluster)}, version {escape(status.version)}</p>"
        f"<p><strong>{escape(health_in_words(status))}</strong></p>{modes}"
        f"<p>{counted(status.files, 'file', 'files')} in "
        f"{counted(status.directories, 'directory', 'directories')}, {size_in_words(status.bytes)} "
        f'(<a href="/files/">look at them</a>)</p>'
        '<table><thead><tr><th>datanode</th><th>address</th><th>state</th><th class="n">used</th>'
        f'<th class="n">free</th></tr></thead><tbody>{rows}</tbody></table>'
        "<h2>Use it</h2><pre>"
        f"dfs --namenode {url} put FILE /FILE\n"
        f"dfs --namenode {url} ls -l /\n"
        f"curl -L {url}/files/FILE -o FILE"
        "</pre></body></html>\n"
    )


def _row(node: DatanodeStatus) -> str:
    return (
        f"<tr><td>{escape(node.id)}</td><td>{escape(node.url)}</td><td>{escape(node.state)}</td>"
        f'<td class="n">{size_in_words(node.used_bytes)}</td><td class="n">{size_in_words(node.free_bytes)}</td></tr>'
    )
