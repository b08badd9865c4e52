"""The local page on which a person decides what words cannot: its addresses and what they do."""

from __future__ import annotations

import html
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moascope.annotation.decide import read_term
from moascope.annotation.pictures import channel_colours
from moascope.annotation.review import and_more, in_words
from moascope.annotation.run import Done
from moascope.annotation.session import Session, begin_session, fingerprint_of, stated_actions
from moascope.screen.columns import GPCR_ACTIONS
from moascope.screen.limits import PlaneError
from moascope.screen.terms import split_terms
from moascope.web.application import make_application, query, render_page
from moascope.web.defences import Application
from moascope.web.serving import serve_until_stopped
from moascope.web.site import Site, open_site

if TYPE_CHECKING:
    import pandas as pd
    from starlette.requests import Request
    from starlette.responses import Response

_ACTIONS = tuple(sorted(action for action in GPCR_ACTIONS if action))
_IDENTIFIERS = ("Metadata_InChIKey", "Metadata_SMILES", "Metadata_Target")
_PICTURE_S = 600


def serve_review(done: Done, out: Path, curator: str, port: int = 0) -> None:
    """Show the review list in a browser until Ctrl-C.

    Parameters
    ----------
    done : Done
        As from `annotate_files`.
    out : Path
        The annotations that it wrote; every decision goes there at once.
    curator : str
        Who decides.
    port : int
        On 127.0.0.1; 0 takes any free one.

    Raises
    ------
    MoascopeError
        Where the port cannot be used.
    """
    if done.review.empty:
        print("Nothing to review, so no page is opened.")
        return
    session, site = begin_session(done, out, curator), open_site(port)
    serve_until_stopped(
        review_application(session, site), site,
        f"Review page: {site.address}\nEvery decision is saved to {out} at once, with the name "
        f"{session.curator}. Press Ctrl-C to stop.")
    print(f"\nStopped. {len(session.touched):,} decided in this session; all are in {out}.")


def review_application(session: Session, site: Site) -> Application:
    """The page of a session as an ASGI application behind the site's defences."""
    from starlette.exceptions import HTTPException
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route

    def go(**fields: str) -> Response:
        return RedirectResponse("/" + query(fields), 303)

    def page(request: Request) -> Response:
        return render_page(request, site, "moascope.annotation", "page.html.jinja",
                           **page_content(session, dict(request.query_params)))

    def picture(request: Request) -> Response:
        asked = request.query_params
        views = session.views(asked.get("compound", ""))
        number = asked.get("view", "")
        if not number.isdecimal() or int(number) >= len(views):
            raise HTTPException(404, "There is no such picture.")
        view, treated = views[int(number)], asked.get("side") != "control"
        if not treated and view.untreated < 0:
            raise HTTPException(404, "This plate has no negative control.")
        try:
            content = session.picture(view, treated, asked.get("channel", ""))
        except PlaneError as error:
            return Response(_sentence_as_picture(error.problems[0]), media_type="image/svg+xml")
        return Response(content, media_type="image/png",
                        headers={"Cache-Control": f"private, max-age={_PICTURE_S}"})

    def decide(request: Request) -> Response:
        form = request.state.form
        name, gpcr, tab = (form.get(field, "") for field in ("compound", "gpcr", "tab"))
        actions = sorted(set(form.getlist("action")))
        if (gpcr not in ("yes", "no", "unknown") or not set(actions) <= set(_ACTIONS)
                or name not in session.decisions):
            raise HTTPException(400, "This page offers no such decision.")
        alone = "all" not in form
        seen = form.get("seen" if alone else "seen_all", "")
        decided, refusal = _saving(session, lambda: session.decide(name, gpcr, actions, seen, tab,
                                                                   alone))
        if refusal:
            return go(compound=name, tab=tab, note=refusal, refused="1")
        action = "|".join(actions) if gpcr == "yes" else ""
        return go(compound=session.following(name), tab=tab, channel=form.get("channel", ""),
                  note=f"Saved {and_more(name, decided)}: {in_words(gpcr, action)}.")

    def undo(request: Request) -> Response:
        tab = request.state.form.get("tab", "")
        names, refusal = _saving(session, lambda: session.undo(tab))
        name = names[0] if names else ""
        return go(compound=name, tab=tab,
                  note=refusal or f"Undid the decision on {and_more(name, len(names))}.")

    return make_application([
        Route("/", page), Route("/picture", picture),
        Route("/decide", decide, methods=["POST"]), Route("/undo", undo, methods=["POST"])], site)


def page_content(session: Session, asked: dict[str, str]) -> dict[str, Any]:
    """What the page of one compound shows.

    Parameters
    ----------
    session : Session
    asked : dict of str to str
        `compound` (by default the first that waits for a decision), `tab`, `note`, `refused`,
        `channel`.
    """
    table = session.table()
    waiting = session.waiting(table)
    name = asked.get("compound") or (waiting[0] if waiting else "")
    note, refused = asked.get("note", ""), bool(asked.get("refused"))
    if name and (name not in table.index or name not in session.decisions):
        note, refused, name = f"{session.out.name} has no compound {name}.", True, ""
    order = list(session.questions)
    questions = session.asked(table)
    number = int(session.questions[name]["number"]) if name in session.questions else None
    shown = _compound_content(session, table, name) if name else {"channels": []}
    channel = asked.get("channel", "")
    return {
        **shown, "name": name, "note": note, "refused": refused,
        "tab": asked.get("tab") or secrets.token_hex(4), "curator": session.curator,
        "out": session.out, "order": order, "number": number, "asked": len(questions),
        "waiting": set(waiting),
        "decided": len(order) - len(waiting), "images_are": session.images_are,
        "previous": questions.get(number - 1, "") if number else "",
        "following": questions.get(number + 1, "") if number else "",
        "channel": channel if channel in shown["channels"] else "",
        "verdicts": table["gpcr"].to_dict(), "has_screen": session.screen is not None,
        "compounds": list(table.index)}


def _compound_content(session: Session, table: pd.DataFrame, name: str) -> dict[str, Any]:
    row = table.loc[name]
    readings = [read_term(term) for term in split_terms(row["Metadata_MoA"])]
    views = session.views(name)
    channels = list(dict.fromkeys(channel for view in views for channel in view.channels))
    listed, sharing = session.questions.get(name), session.sharing(name, table)
    return {
        "row": row, "readings": readings, "actions": stated_actions(row), "views": views,
        "channels": channels, "seen": fingerprint_of(table, (name,)),
        "sharing": sharing, "seen_all": fingerprint_of(table, sharing),
        "terms": len(session.decisions[name].asked),
        "colours": dict(zip(channels, channel_colours(channels), strict=True)),
        "about": {column.removeprefix("Metadata_"): row[column] for column in _IDENTIFIERS
                  if row.get(column)},
        "genes": row["evidence"].partition(". genes: ")[2],
        "question": listed["question"] if listed is not None else "",
        "images": sum(int(session.questions[other]["images"]) for other in sharing
                      if other in session.questions),
        "now": in_words(row["gpcr"], row["gpcr_action"])}


def _saving(session: Session, change: Any) -> Any:
    """Call `change`; a table that cannot be written is told, not a crash."""
    from starlette.exceptions import HTTPException

    try:
        return change()
    except OSError as error:
        raise HTTPException(500, f"{session.out} cannot be written ({error.strerror}). Your "
                                 "decision was not saved.") from None


def _sentence_as_picture(sentence: str) -> bytes:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 240"><rect width="640" '
            f'height="240" fill="#222"/><foreignObject x="20" y="20" width="600" height="200">'
            f'<p xmlns="http://www.w3.org/1999/xhtml" style="color:#eee;font:20px sans-serif">'
            f'{html.escape(sentence)}</p></foreignObject></svg>').encode()
