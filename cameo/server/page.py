"""The page to try a server with."""

from __future__ import annotations

from html import escape
from typing import Final


def page(model: str) -> str:
    """The page as HTML; it asks /run of the server that it came from."""
    return _PAGE.replace("MODEL", escape(model))


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Cameo: MODEL</title>
<style>body{font:16px sans-serif;margin:2rem} img{max-width:48%;vertical-align:top} p{min-height:1.5em}</style>
<h1>MODEL</h1>
<input type="file" accept="image/*" aria-label="a photo">
<p role="status">Choose a photo.</p>
<img id="before" alt=""> <img id="after" alt="">
<script>
const status = document.querySelector("p"), [before, after] = document.querySelectorAll("img");
document.querySelector("input").onchange = async ({target}) => {
  const photo = target.files[0];
  if (!photo) return;
  before.src = URL.createObjectURL(photo);
  after.removeAttribute("src");
  status.textContent = "Working...";
  const answer = await fetch("run", {method: "POST", body: photo}).catch(error => ({ok: false, error}));
  if (!answer.ok) {
    status.textContent = answer.error ?? (await answer.json()).error;
    return;
  }
  after.src = URL.createObjectURL(await answer.blob());
  const [faces, note] = ["Faces", "Note"].map(name => decodeURIComponent(answer.headers.get("X-Cameo-" + name)));
  status.textContent = `${faces} face${faces === "1" ? "" : "s"}. ${note}`;
};
</script></html>
"""
