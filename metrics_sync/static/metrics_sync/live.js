// Elements with `data-live` ask for their update every few seconds, through htmx. They rest while
// the page is hidden, and ask at once when it is seen again.
const LIVE = "[data-live]";

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.matches(LIVE)) {
    event.preventDefault();
  }
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    document.querySelectorAll(LIVE).forEach((element) => htmx.trigger(element, "seen"));
  }
});

// One line says when the page was last brought up to date, or since when it cannot be.
let answeredAt = new Date();

document.addEventListener("htmx:afterRequest", (event) => {
  const line = document.querySelector("[data-connection]");
  if (!line || !event.detail.elt.matches(LIVE)) {
    return;
  }
  const isAnswered = event.detail.xhr.status >= 200 && event.detail.xhr.status < 400;
  if (isAnswered) {
    answeredAt = new Date();
  }
  const time = answeredAt.toLocaleTimeString("en-GB");
  line.hidden = false;
  line.textContent = isAnswered ? `Updated ${time}` : `No connection since ${time}. Trying again.`;
  line.classList.toggle("lost", !isAnswered);
  line.setAttribute("role", isAnswered ? "note" : "alert");
});

// An update leaves alone what a script or the reader has made of the page: drawn charts, opened
// tables, and the time that has the focus.
const KEPT = {
  CANVAS: ["width", "height", "style"],
  DETAILS: ["open"],
  TIME: ["title", "tabindex", "data-exact"],
};

document.addEventListener("DOMContentLoaded", () => {
  if (window.Idiomorph) {
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
      !KEPT[node.tagName]?.includes(name);
  }
});

// A chart takes over its new numbers.
document.addEventListener("htmx:afterSettle", () => {
  document.querySelectorAll("canvas.chart").forEach((canvas) => {
    const chart = Chart.getChart(canvas);
    if (!chart || canvas.dataset.drawn === canvas.dataset.value) {
      return;
    }
    const { labels, datasets } = JSON.parse(canvas.dataset.value);
    chart.data.labels = labels;
    datasets.forEach((dataset, index) => {
      chart.data.datasets[index].data = dataset.data;
    });
    chart.update();
    canvas.dataset.drawn = canvas.dataset.value;
  });
});

// A click on a point or a bar follows the link that the table behind the chart has for it.
function findLink(canvas, event) {
  const chart = Chart.getChart(canvas);
  const [item] = chart?.getElementsAtEventForMode(event, "nearest", { intersect: true }, true) ?? [];
  const table = canvas.closest("[data-chart]");
  return item && table?.querySelector(`[data-point="${item.index}"]`);
}

document.addEventListener("click", (event) => {
  if (event.target.matches("[data-chart] canvas")) {
    findLink(event.target, event)?.click();
  }
});

document.addEventListener("mousemove", (event) => {
  if (event.target.matches("[data-chart] canvas")) {
    event.target.style.cursor = findLink(event.target, event) ? "pointer" : "";
  }
});

// The words of a chart have the colour of the page's own, in the light and in the dark.
function paintCharts() {
  const ink = getComputedStyle(document.body).color;
  document.querySelectorAll("canvas.chart").forEach((canvas) => {
    const chart = Chart.getChart(canvas);
    Object.values(chart?.options.scales ?? {}).forEach((scale) => {
      scale.ticks.color = ink;
      scale.title.color = ink;
    });
    chart?.update();
  });
}

new MutationObserver(paintCharts).observe(document.documentElement, {
  attributeFilter: ["class"],
});
window.addEventListener("load", () => setTimeout(paintCharts));

// The field that select2 searches with has no name of its own. It is made when the page has loaded.
window.addEventListener("load", () => {
  setTimeout(() => {
    document.querySelectorAll(".select2-search__field").forEach((field) => {
      field.setAttribute("aria-label", "Search");
    });
  });
});

// Of the last weeks and the days from … to … the one that was chosen last is meant.
document.addEventListener("change", ({ target }) => {
  const form = target.closest("form.selection");
  if (!form) {
    return;
  }
  const { weeks, from, to } = form.elements;
  if (target === weeks && weeks.value) {
    from.value = to.value = "";
  } else if ((target === from || target === to) && target.value) {
    weeks.value = "";
  }
});
