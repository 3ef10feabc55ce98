// Keeps a page up to date. The server sends what the page would show now whenever that
// changes; the parts that differ take the place of those that are there. Without this
// script the pages show the same, as it was when they were loaded.
"use strict";

(() => {
  const main = document.querySelector("main[data-live]");
  const sign = document.getElementById("live");
  if (!main || !window.EventSource) return;

  const say = (state, text) => {
    sign.dataset.state = state;
    sign.textContent = text;
  };

  // What the server sent last of each part: a part may look otherwise here, such as a
  // log that has grown.
  const sent = new Map();
  for (const part of main.children) sent.set(part.id, part.outerHTML);

  const selected = (part) => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  };

  // focusKey says how to find an element again that has the focus.
  const focusKey = (element) => {
    if (!element || element === document.body) return null;
    if (element.id) return "#" + CSS.escape(element.id);
    const href = element.getAttribute("href");
    return href ? `${element.localName}[href="${CSS.escape(href)}"]` : null;
  };

  const replace = (old, part) => {
    const key = old.contains(document.activeElement) ? focusKey(document.activeElement) : null;
    const open = [...old.querySelectorAll("details[open][id]")].map((d) => d.id);
    old.replaceWith(part);
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    const again = key && part.querySelector(key);
    if (again) again.focus({ preventScroll: true });
  };

  const update = (html) => {
    const fresh = [...new DOMParser().parseFromString(html, "text/html").body.children];
    const wanted = new Set(fresh.map((part) => part.id));
    for (const old of [...main.children]) if (!wanted.has(old.id)) old.remove();
    let before = null;
    for (const part of fresh) {
      const text = part.outerHTML;
      const old = document.getElementById(part.id);
      if (!old) {
        if (before) before.after(part);
        else main.prepend(part);
        sent.set(part.id, text);
      } else if (sent.get(part.id) !== text && !selected(old)) {
        replace(old, part);
        sent.set(part.id, text);
      }
      before = document.getElementById(part.id);
    }
    follow();
  };

  // What running actions print is appended to the elements that ask for it. A browser
  // has few connections to a server: a page that nobody sees gives back its own, and goes
  // on where it was.
  const most = 1 << 20;
  const logs = [];
  const read = (log) => {
    log.source = new EventSource(`${log.address}?offset=${log.offset}`);
    log.source.addEventListener("print", (event) => {
      if (!log.element.isConnected) return log.source.close();
      log.offset = event.lastEventId;
      const bytes = Uint8Array.from(atob(JSON.parse(event.data)), (c) => c.charCodeAt(0));
      const element = log.element;
      const end = element.scrollHeight - element.scrollTop - element.clientHeight < 20;
      log.text.appendData(log.decoder.decode(bytes, { stream: true }).replace(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, ""));
      if (log.text.length > most) log.text.deleteData(0, log.text.length - most);
      if (end) element.scrollTop = element.scrollHeight;
    });
    log.source.addEventListener("end", () => {
      log.source.close();
      logs.splice(logs.indexOf(log), 1);
    });
  };
  const follow = () => {
    for (const element of main.querySelectorAll("pre[data-log]")) {
      const log = { element, address: element.dataset.log, offset: 0, decoder: new TextDecoder(), text: element.appendChild(document.createTextNode("")) };
      element.removeAttribute("data-log");
      logs.push(log);
      read(log);
    }
  };

  let source = null;
  const connect = () => {
    source = new EventSource(window.location.href);
    source.addEventListener("open", () => say("on", "live"));
    source.addEventListener("error", (event) => {
      const closed = event.target.readyState === EventSource.CLOSED;
      say("off", closed ? "not updated any more: load the page again" : "not up to date: trying again");
    });
    source.addEventListener("page", (event) => {
      say("on", "live");
      update(JSON.parse(event.data));
    });
    source.addEventListener("end", (event) => {
      source.close();
      say("off", "not updated any more: " + JSON.parse(event.data));
    });
  };
  // A page that nobody sees needs no updates.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      if (source) source.close();
      source = null;
      for (const log of logs) log.source.close();
      say("off", "paused");
    } else if (!source) {
      connect();
      for (const log of logs) read(log);
    }
  });
  follow();
  if (!document.hidden) connect();
})();
