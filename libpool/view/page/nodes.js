"use strict";
// The nodes of a cluster, where the pool that is shown is a cluster's head: read from the metrics, which alone tell of them.
const Nodes = (() => {
  const every = 2000;    // milliseconds between two looks at a head
  const seldom = 15000;  // and at a pool that was none: it may become one
  let shown = null;
  let timer = 0;

  // "kindred_cluster_node_workers{pool="1/2",cluster="c",node="a"} 2": what is told of one pool, and of each node of it.
  function read(text, key) {
    const nodes = new Map();
    const head = new Map();
    let cluster = "";
    for (const line of text.split("\n")) {
      const parts = /^kindred_cluster_(\w+)\{([^}]*)\} (\S+)$/.exec(line);
      if (!parts) continue;
      const labels = Object.fromEntries([...parts[2].matchAll(/(\w+)="([^"]*)"/g)].map((label) => [label[1], label[2]]));
      if (labels.pool !== key) continue;
      cluster = labels.cluster;
      if (labels.node === undefined) {
        head.set(labels.state || labels.outcome || parts[1], Number(parts[3]));
        continue;
      }
      if (!nodes.has(labels.node)) nodes.set(labels.node, {name: labels.node});
      nodes.get(labels.node)[parts[1]] = Number(parts[3]);
    }
    return {cluster, head, nodes: [...nodes.values()].sort((a, b) => a.name.localeCompare(b.name, [], {numeric: true}))};
  }

  function draw({cluster, head, nodes}) {
    document.getElementById("nodes-section").hidden = !cluster;
    if (!cluster) return;
    const count = (name) => Math.round(head.get(name) || 0).toLocaleString();
    document.getElementById("nodes-note").textContent =
      `Cluster ${cluster}: ${count("pending")} tasks wait, ${count("held")} are with nodes, ${count("done")} done, ${count("failed")} failed, ` +
      `${count("lost")} lost, ${count("nodes_lost_total")} nodes lost, the connection was away ${count("pauses_total")} times.`;
    const body = document.getElementById("nodes").tBodies[0];
    body.replaceChildren(...nodes.map((node) => {
      const row = document.createElement("tr");
      const seconds = (value) => Charts.durationText(Math.abs(value));
      const cells = [node.name, node.node_workers, node.node_tasks_running, node.node_tasks_held, seconds(node.node_round_trip_seconds),
                     (node.node_clock_offset_seconds < 0 ? "-" : "") + seconds(node.node_clock_offset_seconds), seconds(node.node_silence_seconds)];
      cells.forEach((value, i) => {
        const cell = document.createElement(i === 0 ? "th" : "td");
        if (i === 0) cell.scope = "row";
        cell.className = i === 0 ? "name" : "n";
        cell.textContent = value;
        row.append(cell);
      });
      return row;
    }));
  }

  async function look() {
    const key = shown;
    let pause = seldom;
    try {
      const response = await fetch("metrics");
      const told = read(response.ok ? await response.text() : "", key);
      if (shown !== key) return;  // another pool is shown meanwhile, and has begun its own looks
      draw(told);
      if (told.cluster) pause = every;
    } catch (error) {  // kindred-view does not answer: the page says so, and the next look may
      if (shown !== key) return;
      pause = every;
    }
    timer = setTimeout(look, pause);
  }

  function show(key) {
    if (shown === key) return;
    shown = key;
    clearTimeout(timer);
    document.getElementById("nodes-section").hidden = true;
    look();
  }
  return {show};
})();
