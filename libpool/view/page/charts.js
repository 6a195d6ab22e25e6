"use strict";
// The charts over time. Every value comes from two looks at a pool, so a chart begins with the second one.
const Charts = (() => {
  const kept = 300;  // looks, one a second
  const charts = {};
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const durationText = (seconds) => {
    if (!(seconds > 0)) return "0";
    const units = [["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3], ["\u00b5s", 1e-6], ["ns", 1e-9]];
    const [unit, size] = units.find(([, one]) => seconds >= one) || units[units.length - 1];
    const value = seconds / size;
    return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ${unit}`;
  };

  function make(id, series, isTime) {
    const canvas = document.getElementById(id);
    charts[id] = new Chart(canvas, {
      type: "line",
      data: {labels: [], datasets: series.map(([label, color, dash]) => ({
        label, data: [], borderWidth: 2, pointRadius: 0, spanGaps: false, borderDash: dash || [], colorName: color,
      }))},
      options: {
        animation: false, responsive: true, maintainAspectRatio: false,
        interaction: {mode: "index", intersect: false},
        plugins: {
          legend: {display: series.length > 1, position: "top", align: "end", labels: {boxWidth: 18, boxHeight: 1}},
          tooltip: {callbacks: {label: (item) =>
            `${item.dataset.label}: ${isTime ? durationText(item.parsed.y) : item.parsed.y.toLocaleString()}`}},
        },
        scales: {
          x: {ticks: {maxTicksLimit: 5, maxRotation: 0, autoSkip: true}, grid: {display: false}},
          y: {beginAtZero: true, ticks: {maxTicksLimit: 5, callback: (value) => isTime ? durationText(value) : value.toLocaleString()}},
        },
      },
    });
  }

  function paint() {
    for (const chart of Object.values(charts)) {
      for (const set of chart.data.datasets) set.borderColor = set.backgroundColor = css(set.colorName);
      for (const scale of Object.values(chart.options.scales)) {
        scale.ticks.color = css("--soft");
        scale.grid = {...scale.grid, color: css("--line")};
      }
      chart.options.plugins.legend.labels.color = css("--soft");
      chart.update("none");
    }
  }

  // The time that a share of what was counted between two looks stayed under; null where nothing was.
  function percentile(now, before, share) {
    const counts = new Map();
    for (const [end, count] of now.buckets) counts.set(end, count);
    for (const [end, count] of before.buckets) counts.set(end, (counts.get(end) || 0) - count);
    const ends = [...counts.keys()].sort((a, b) => (a < 0 ? 1 : b < 0 ? -1 : a - b));
    const all = ends.reduce((sum, end) => sum + counts.get(end), 0);
    if (all <= 0) return null;
    let under = 0;
    for (const end of ends) {
      under += counts.get(end);
      if (under >= share * all) return end < 0 ? 2199 : end;
    }
    return null;
  }

  return {
    kept, durationText,
    begin() {
      if (typeof Chart === "undefined") return;
      Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
      Chart.defaults.font.size = 11;
      make("c-throughput", [["done a second", "--accent"]], false);
      make("c-queue", [["waiting", "--second"], ["running", "--busy", [5, 3]]], false);
      make("c-run", [["median", "--accent"], ["99 %", "--second", [5, 3]]], true);
      make("c-wait", [["median", "--accent"], ["99 %", "--second", [5, 3]]], true);
      paint();
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    },
    point(now, before) {
      const passed = now.now - before.now;
      return {
        time: new Date(now.now * 1000).toLocaleTimeString([], {hourCycle: "h23"}),
        "c-throughput": [(now.totals.done - before.totals.done) / passed].map((value) => Math.round(value * 10) / 10),
        "c-queue": [now.totals.pending, now.totals.running],
        "c-run": [0.5, 0.99].map((share) => percentile(now.run_time, before.run_time, share)),
        "c-wait": [0.5, 0.99].map((share) => percentile(now.queue_time, before.queue_time, share)),
      };
    },
    show(points) {
      for (const [id, chart] of Object.entries(charts)) {
        chart.data.labels = points.map((point) => point.time);
        chart.data.datasets.forEach((set, i) => { set.data = points.map((point) => point[id][i]); });
        chart.update("none");
      }
    },
  };
})();
