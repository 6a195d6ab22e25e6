"use strict";
// The page: takes what the pools tell, once a second, and shows one of them.
(() => {
  const $ = (id) => document.getElementById(id);
  const looks = new Map();   // by key: the last look
  const points = new Map();  // by key: of the charts
  let chosen = decodeURIComponent(location.hash.slice(1)) || null;
  let sortBy = "run_seconds";
  let stackOf = null;

  const whole = (value) => Math.round(value).toLocaleString();
  const duration = Charts.durationText;
  function bytes(count) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (count >= 1024 && unit + 1 < units.length) { count /= 1024; ++unit; }
    return `${unit === 0 || count >= 100 ? count.toFixed(0) : count.toFixed(1)} ${units[unit]}`;
  }
  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }
  // Writes only what has changed, so that a selection and the focus stay.
  function setText(node, text) { if (node.textContent !== text) node.textContent = text; }
  function setClass(node, name) { if (node.className !== name) node.className = name; }

  // As many rows as there are items; each made once and then changed.
  function fill(body, items, make, change) {
    while (body.rows.length > items.length) body.lastElementChild.remove();
    while (body.rows.length < items.length) body.append(make());
    items.forEach((item, i) => change(body.rows[i], item, i));
  }
  function row(columns) {
    const made = document.createElement("tr");
    columns.forEach((className, i) => {
      const cell = element(i === 0 ? "th" : "td", "", className);
      if (i === 0) cell.scope = "row";
      made.append(cell);
    });
    return made;
  }

  // Pools under their parents, each with its depth.
  function inOrder(pools) {
    const out = [];
    const below = (parent, depth) => {
      for (const pool of pools) {
        if ((pool.parent || "") !== parent) continue;
        out.push([pool, depth]);
        if (depth < 16) below(pool.key, depth + 1);
      }
    };
    const keys = new Set(pools.map((pool) => pool.key));
    for (const pool of pools) if (pool.parent && !keys.has(pool.parent)) pool.parent = "";
    below("", 0);
    return out;
  }

  function showPools(pools) {
    const nav = $("pools");
    const wanted = pools.length > 1 ? inOrder(pools) : [];
    while (nav.children.length > wanted.length) nav.lastElementChild.remove();
    while (nav.children.length < wanted.length) {
      const button = element("button");
      button.type = "button";
      button.addEventListener("click", () => choose(button.dataset.key));
      nav.append(button);
    }
    wanted.forEach(([pool, depth], i) => {
      const button = nav.children[i];
      button.dataset.key = pool.key;
      const program = pool.view.program.split("/").pop();
      setText(button, `${program} ${pool.key}${pool.ended ? " (ended)" : ""}`);
      setClass(button, depth > 0 ? "child" : "");
      button.setAttribute("aria-current", String(pool.key === chosen));
      if (pool.parent) button.title = `in a worker of ${pool.parent}`;
    });
  }

  function choose(key) {
    chosen = key;
    history.replaceState(null, "", `#${encodeURIComponent(key)}`);
    closeStacks();
    showChosen();
  }

  function showTotals(view) {
    const t = view.totals;
    const items = [
      ["waiting", whole(t.pending)], ["running", whole(t.running)], ["done", whole(t.done)],
      ["failed", whole(t.failed), t.failed > 0], ["lost", whole(t.lost), t.lost > 0], ["cancelled", whole(t.cancelled)],
      ["workers", `${t.workers} of ${view.max_workers}`], ["restarts", whole(t.restarts), t.restarts > 0],
      ["memory", bytes(t.rss_bytes)], ["log records", whole(view.log.committed)],
      ["dropped", whole(view.log.dropped), view.log.dropped > 0],
    ];
    const list = $("totals");
    if (list.children.length !== items.length) {
      list.replaceChildren(...items.map(([name]) => {
        const div = element("div");
        div.append(element("dt", name), element("dd"));
        return div;
      }));
    }
    items.forEach(([, value, bad], i) => {
      const dd = list.children[i].lastElementChild;
      setText(dd, value);
      setClass(dd, bad ? "bad" : "");
    });
  }

  // "2 (SIGSEGV)": how often, and what ended the last one. All that is known of them stands under the deaths.
  function restarts(worker, deaths) {
    return worker.restarts && deaths.length ? `${whole(worker.restarts)} (${deaths.at(-1).kind})` : whole(worker.restarts);
  }

  function showWorkers(view, before) {
    const passed = before ? view.now - before.now : 0;
    fill($("workers").tBodies[0], view.workers, () => {
      const made = row(["", "", "name", "n", "n", "n", "n", "n", "n", "n", ""]);
      made.cells[0].append(element("span"), " ", element("span", "", "pid"));
      made.cells[1].append(element("span", "", "state"));
      const button = element("button", "Stack");
      button.type = "button";
      button.addEventListener("click", () => openStacks(Number(made.dataset.worker)));
      made.cells[10].append(button);
      return made;
    }, (tr, worker, i) => {
      tr.dataset.worker = worker.index;
      const old = before && before.workers[i];
      const cpu = old && old.pid === worker.pid && passed > 0 ? (worker.cpu_seconds - old.cpu_seconds) / passed : 0;
      const cells = tr.cells;
      setText(cells[0].firstElementChild, String(worker.index));
      setText(cells[0].lastElementChild, worker.pid ? `(pid ${worker.pid})` : "");
      const state = cells[1].firstElementChild;
      setText(state, worker.state);
      setClass(state, `state ${worker.state}`);
      const task = worker.state === "running" || worker.task ? `${worker.task_name} #${worker.task}` : "";
      setText(cells[2], worker.task ? task : "");
      cells[2].title = worker.task ? task : "";
      setText(cells[3], worker.task && worker.running_seconds ? duration(worker.running_seconds) : "");
      const deaths = view.deaths.filter((death) => death.worker === worker.index);
      cells[7].title = deaths.map((death) => death.reason).join("\n");
      [worker.done, worker.failed, worker.lost, worker.restarts].forEach((value, j) => {
        setText(cells[4 + j], j < 3 ? whole(value) : restarts(worker, deaths));
        setClass(cells[4 + j], j > 0 && value > 0 ? "n bad" : "n");
      });
      setText(cells[8], worker.pid ? `${Math.round(cpu * 100)} %` : "");
      setText(cells[9], worker.pid ? bytes(worker.rss_bytes) : "");
      cells[10].firstElementChild.hidden = !worker.pid;
      cells[10].firstElementChild.setAttribute("aria-label", `Stack of worker ${worker.index}`);
    });
    Log.workers(view.workers.map((worker) => worker.index));
  }

  function showNames(view) {
    const names = view.names.map((name) => ({...name, mean: name.ended ? name.run_seconds / name.ended : 0}));
    names.sort((a, b) => b[sortBy] - a[sortBy] || a.name.localeCompare(b.name));
    fill($("names").tBodies[0], names.slice(0, 50), () => row(["name", "n", "n", "n", "n", "n", "n"]), (tr, name) => {
      const cells = tr.cells;
      setText(cells[0], name.name || "(unnamed)");
      cells[0].title = name.name;
      [whole(name.ended), whole(name.failed), whole(name.lost), duration(name.mean), duration(name.longest_seconds),
       duration(name.run_seconds)].forEach((text, i) => {
        setText(cells[i + 1], text);
        setClass(cells[i + 1], (i === 1 && name.failed) || (i === 2 && name.lost) ? "n bad" : "n");
      });
    });
    for (const button of document.querySelectorAll("[data-sort]"))
      button.setAttribute("aria-pressed", String(button.dataset.sort === sortBy));
  }

  function showDeaths(view) {
    $("deaths-section").hidden = view.deaths.length === 0;
    const box = $("deaths");
    const deaths = view.deaths.slice().reverse();
    const key = deaths.map((death) => `${death.pid}.${death.time}`).join();
    if (box.dataset.key === key) return;
    const open = new Set([...box.querySelectorAll("details[open]")].map((one) => one.dataset.key));
    box.dataset.key = key;
    box.replaceChildren(...deaths.map((death) => {
      const one = element("details");
      one.dataset.key = `${death.pid}.${death.time}`;
      one.open = open.has(one.dataset.key);
      const when = new Date(death.time * 1000).toLocaleTimeString([], {hourCycle: "h23"});
      const task = death.task ? ` while running '${death.task_name}' #${death.task}` : "";
      one.append(element("summary", `${when} worker ${death.worker} (pid ${death.pid}) ${death.reason}${task}`));
      const parts = [death.hint, death.crash, death.stack, death.last_lines.length ? "its last lines:" : "", ...death.last_lines];
      one.append(element("pre", parts.filter((part) => part).join("\n") || "It left nothing."));
      return one;
    }));
  }

  async function openStacks(worker) {
    stackOf = worker;
    const title = $("stacks-title");
    $("stacks").hidden = false;
    title.textContent = `What worker ${worker} does now`;
    $("stacks-text").textContent = "";
    title.focus();
    let text;
    try {
      const response = await fetch(`stacks?${new URLSearchParams({pool: chosen, worker})}`);
      if (response.ok) {
        const answer = await response.json();
        text = answer.threads.map((thread) => [`thread ${thread.tid} (${thread.name})`, ...thread.frames.map((frame, i) =>
          `  #${i} ${frame.function || frame.address} ${frame.place ? `at ${frame.place}` : `in ${frame.module}`}`)].join("\n")).join("\n\n");
      } else {
        text = await response.text();
      }
    } catch (error) {
      text = "kindred-view does not answer";
    }
    if (stackOf === worker) $("stacks-text").textContent = text;
  }
  function closeStacks() {
    $("stacks").hidden = true;
    stackOf = null;
  }

  function showAlarm() {
    const look = looks.get(chosen);
    if (!look) return;
    const silent = Math.floor((Date.now() - look.arrived) / 1000);
    let alarm = "";
    if (look.view.broken) alarm = `The pool is broken: ${look.view.broken}`;
    else if (look.ended) alarm = "The pool has ended. This is what it told last.";
    else if (silent >= 5) alarm = `The pool has told nothing for ${silent} s: its process is stopped, or busy beyond measure.`;
    setText($("alarm"), alarm);
    $("alarm").hidden = !alarm;
  }

  function showChosen() {
    const look = looks.get(chosen);
    $("nothing").hidden = Boolean(look);
    $("pool").hidden = !look;
    if (!look) return;
    const {view, before} = look;
    const program = view.program.split("/").pop();
    document.title = `${view.totals.running} running \u00b7 ${program} ${chosen}`;
    showAlarm();
    setText($("about"), `${program}, pid ${view.pid}, ${view.start_method}, level ${view.level}, up ${duration(view.now - view.since)}`);
    showTotals(view);
    showWorkers(view, before);
    showDeaths(view);
    showNames(view);
    Charts.show(points.get(chosen) || []);
    Log.show(chosen);
    Nodes.show(chosen);
  }

  function take(pools) {
    for (const pool of pools) {
      const last = looks.get(pool.key);
      if (last && last.view.now === pool.view.now) {
        last.ended = pool.ended;
        continue;
      }
      const before = last && last.view.since === pool.view.since ? last.view : null;
      if (!before) points.set(pool.key, []);
      looks.set(pool.key, {view: pool.view, before, ended: pool.ended, arrived: Date.now()});
      if (before) {
        const its = points.get(pool.key);
        its.push(Charts.point(pool.view, before));
        if (its.length > Charts.kept) its.shift();
      }
    }
    if (!looks.has(chosen) && pools.length) chosen = (pools.find((pool) => !pool.ended && !pool.parent) || pools[0]).key;
    for (const key of looks.keys()) {  // of pools that kindred-view has forgotten
      if (key === chosen || pools.some((pool) => pool.key === key)) continue;
      looks.delete(key);
      points.delete(key);
    }
    showPools(pools);
    showChosen();
  }

  Charts.begin();
  Log.begin();
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      sortBy = button.dataset.sort;
      showChosen();
    });
  }
  $("stacks-again").addEventListener("click", () => openStacks(stackOf));
  $("stacks-close").addEventListener("click", closeStacks);
  addEventListener("hashchange", () => {
    const key = decodeURIComponent(location.hash.slice(1));
    if (looks.has(key)) choose(key);  // "#main" is where the first link leads
  });
  setInterval(showAlarm, 1000);
  const events = new EventSource("events");
  const connection = $("connection");
  events.onopen = () => { connection.textContent = "live"; connection.className = ""; };
  events.onmessage = (event) => take(JSON.parse(event.data).pools);
  events.onerror = () => { connection.textContent = "kindred-view does not answer; trying again"; connection.className = "lost"; };
})();
