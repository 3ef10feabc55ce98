// What is wrong with the page for those who do not see it, use no mouse, or see it badly:
// an array of sentences.
(() => {
  const wrong = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const say = (what, element) => wrong.push(`${what}: ${(element.outerHTML || element.nodeValue).slice(0, 200)}`);
  const need = (selector, count) => {
    if (all(selector).length !== count) wrong.push(`there are ${all(selector).length} of ${selector}, want ${count}`);
  };
  if (document.documentElement.lang !== "en") wrong.push("the page does not say its language");
  if (!document.title.endsWith(" · hearth")) wrong.push(`the title is ${document.title}`);
  for (const one of ["h1", "main", "header", "nav", "footer"]) need(one, 1);
  need("nav [aria-current=page]", document.querySelector("main[data-live]") ? 1 : 0);
  for (const e of all("input, select, textarea")) if (e.type !== "hidden" && !e.labels.length) say("no label", e);
  for (const e of all("table")) if (!e.caption || !e.caption.textContent.trim()) say("a table without a caption", e);
  for (const e of all("th")) if (!e.scope) say("a heading of a table without a scope", e);
  for (const e of all("svg")) if (e.getAttribute("aria-hidden") !== "true" && !(e.getAttribute("role") === "img" && (e.ariaLabel || document.getElementById(e.getAttribute("aria-labelledby"))))) say("a picture without words", e);
  for (const e of all("a:not([tabindex]), button")) if (!(e.ariaLabel || e.textContent).trim()) say("nothing to read out", e);
  for (const e of all("main > *")) if (!e.id) say("a part without an ID", e);
  for (const e of all("section > h2")) if (!e.parentElement.textContent.replace(e.textContent, "").trim() && !e.parentElement.querySelector("svg")) say("an empty section", e);
  for (const e of all("[style], script:not([src]), style")) say("an inline style or script", e);
  const ids = all("[id]").map((e) => e.id);
  if (new Set(ids).size !== ids.length) wrong.push("an ID is there twice");
  let level = 0;
  for (const e of all("h1, h2, h3, h4")) {
    const is = Number(e.localName[1]);
    if (is > level + 1) say("a heading is left out before", e);
    level = is;
  }
  if (document.documentElement.scrollWidth > window.innerWidth) wrong.push("the page is wider than the window");

  const rgb = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const light = ({ r, g, b }) => {
    const part = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.a === 1) return c;
      if (c.a > 0) wrong.push("a background that lets others through");
    }
    return { r: 255, g: 255, b: 255 };
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let counted = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.nodeValue.trim() || element.closest("title, script")) continue;
    const style = getComputedStyle(element);
    const ink = rgb(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    counted++;
    if ((a + 0.05) / (b + 0.05) < 4.5) say(`a contrast of ${((a + 0.05) / (b + 0.05)).toFixed(2)}`, element);
  }
  if (counted < 20) wrong.push(`only ${counted} texts`);
  return wrong;
})();
