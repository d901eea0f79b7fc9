// Shows each time as how long ago it was; the exact time, in the reader's zone, is in its title and
// comes with a click or the focus. All times of a column have one unit, so that they compare.
// Without this script a time stands there in UTC.
const UNITS = [
  ["second", 1],
  ["minute", 60],
  ["hour", 3600],
  ["day", 86400],
];
const exact = new Intl.DateTimeFormat("sv-SE", {
  dateStyle: "short",
  timeStyle: "medium",
});
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const relative = new Intl.RelativeTimeFormat("en", { style: "short" });

// The middle one of the ages decides: the unit in which it is at least 2.
function chooseUnit(ages) {
  const sorted = [...ages].sort((one, other) => one - other);
  const middle = sorted[Math.floor(sorted.length / 2)];
  return UNITS.findLast(([, seconds]) => middle >= 2 * seconds) ?? UNITS[0];
}

function readAge(time) {
  return (Date.now() - Date.parse(time.dateTime)) / 1000;
}

function showAge(age, [unit, seconds]) {
  const count = Math.abs(age) / seconds;
  const rounded = count < 10 && unit !== "second" ? Math.round(count * 10) / 10 : Math.round(count);
  return relative.format(age < 0 ? rounded : -rounded, unit);
}

function nameColumn(time) {
  const cell = time.closest("td, th");
  return cell ? `${cell.cellIndex}` : "alone";
}

function show(time, unit) {
  const moment = `${exact.format(new Date(time.dateTime))} ${zone}`;
  const text = time.dataset.exact === "yes" ? moment : showAge(readAge(time), unit);
  if (time.textContent !== text) {
    time.textContent = text;
  }
  if (time.title !== moment) {
    time.title = moment;
    time.tabIndex = 0;
  }
}

function showAll() {
  const columns = new Map();
  document.querySelectorAll("time[datetime]").forEach((time) => {
    const table = time.closest("table") ?? time;
    const found = columns.get(table) ?? columns.set(table, new Map()).get(table);
    const name = nameColumn(time);
    found.set(name, [...(found.get(name) ?? []), time]);
  });
  columns.forEach((found) =>
    found.forEach((times) => {
      const unit = chooseUnit(times.map((time) => Math.abs(readAge(time))));
      times.forEach((time) => show(time, unit));
    }),
  );
}

// A click gives the focus, too.
function setExact(event, answer) {
  const time = event.target.closest?.("time[datetime]");
  if (time) {
    time.dataset.exact = answer;
    showAll();
    if (answer === "yes") {
      // The longer text may have moved it out of sight.
      time.scrollIntoView({ block: "nearest" });
    }
  }
}

document.addEventListener("focusin", (event) => setExact(event, "yes"));
document.addEventListener("focusout", (event) => setExact(event, "no"));
document.addEventListener("DOMContentLoaded", showAll);
document.addEventListener("htmx:afterSwap", showAll);
document.addEventListener("htmx:oobAfterSwap", showAll);
setInterval(showAll, 30000);
