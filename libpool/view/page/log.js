"use strict";
// The log of one pool, live. The pool filters it; here it is only shown.
const Log = (() => {
  const kept = 2000;  // lines
  const levels = ["trace", "debug", "info", "warn", "error", "critical"];
  const $ = (id) => document.getElementById(id);
  let source = null;
  let pool = null;
  let paused = false;
  let waiting = [];

  // A record is what sinks::json writes: see its members in sinks.hpp.
  function lineOf(text) {
    const outer = JSON.parse(text);
    const record = outer.record || outer;
    const level = (record.level && record.level.name || "").toLowerCase();
    const p = document.createElement("p");
    p.className = level;
    const add = (tag, words, className) => {
      const part = document.createElement(tag);
      part.textContent = words;
      if (className) part.className = className;
      p.append(part, " ");
    };
    const time = record.time && (record.time.repr || record.time.timestamp);
    const clock = typeof time === "string" ? (time.split(/[ T]/)[1] || time).slice(0, 12) : "";
    add("span", clock, "who");
    add("b", level);
    const worker = record.worker;
    const index = worker && typeof worker === "object" ? worker.index : worker;
    const task = record.task && typeof record.task === "object" ? record.task : null;
    let who = index === undefined || index === null || index < 0 ? "parent" : `w${index}`;
    if (task && task.id) who += ` ${task.name || ""}#${task.id}`;
    add("span", who, "who");
    p.append(record.message === undefined ? text : record.message);
    return p;
  }

  function put(node) {
    const box = $("log");
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(node);
    while (box.childElementCount > kept) box.firstElementChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  function take(make) {
    if (!paused) return put(make());
    waiting.push(make);
    if (waiting.length > kept) waiting.shift();
    $("log-note").textContent = `paused; ${waiting.length} lines wait`;
  }

  function begin() {
    if (source) source.close();
    $("log").replaceChildren();
    waiting = [];
    if (!pool) return;
    const wanted = new URLSearchParams({pool, level: $("f-level").value});
    for (const [id, name] of [["f-worker", "worker"], ["f-task", "task"], ["f-text", "text"]]) {
      const value = $(id).value.trim();
      if (value) wanted.set(name, value);
    }
    $("log-note").textContent = "";
    const mine = source = new EventSource(`log?${wanted}`);
    mine.onmessage = (event) => take(() => lineOf(event.data));
    mine.addEventListener("lost", (event) => take(() => {
      const p = document.createElement("p");
      p.className = "lost";
      p.textContent = `${event.data} records were lost here: this page was slower than the log`;
      return p;
    }));
    mine.addEventListener("end", (event) => {
      mine.close();
      $("log-note").textContent = event.data;
    });
    mine.onerror = () => {
      if (mine.readyState === EventSource.CLOSED) $("log-note").textContent = "the log cannot be read: the pool has ended, or the filter makes no sense";
    };
  }

  function pause() {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    $("pause").textContent = paused ? "Go on" : "Pause";
    if (paused) return;
    for (const make of waiting) put(make());
    waiting = [];
    $("log-note").textContent = "";
  }

  async function setLevel(event) {
    event.preventDefault();
    const body = {pool, level: $("l-level").value};
    if ($("l-worker").value !== "") body.worker = Number($("l-worker").value);
    const answer = $("l-answer");
    answer.textContent = "";
    try {
      const response = await fetch("level", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
      answer.textContent = response.ok ? `set to ${body.level}` : (await response.text()).trim();
      answer.className = response.ok ? "" : "bad";
    } catch (error) {
      answer.textContent = "kindred-view does not answer";
      answer.className = "bad";
    }
  }

  return {
    begin() {
      for (const name of levels) {
        $("f-level").append(new Option(name));
        $("l-level").append(new Option(name));
      }
      $("l-level").append(new Option("off"));
      $("f-level").value = "trace";
      $("l-level").value = "info";
      $("filters").addEventListener("submit", (event) => { event.preventDefault(); begin(); });
      for (const id of ["f-level", "f-worker"]) $(id).addEventListener("change", begin);
      $("pause").addEventListener("click", pause);
      $("levels").addEventListener("submit", setLevel);
    },
    show(key) {
      if (key === pool) return;
      pool = key;
      begin();
    },
    // The workers that there are, in both lists.
    workers(indices) {
      for (const [id, first] of [["f-worker", 2], ["l-worker", 2]]) {
        const list = $(id);
        if (list.options.length === first + indices.length) continue;
        const chosen = list.value;
        while (list.options.length > first) list.remove(first);
        for (const index of indices) list.append(new Option(`worker ${index}`, String(index)));
        list.value = chosen;
      }
    },
  };
})();
