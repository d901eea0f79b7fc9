// The theme's filters, menus and colours answer the clicks of a pointer alone. Here they become
// buttons, which the keyboard reaches and presses, too.
const FOCUSABLE = "a[href], button, input:not([type=hidden]), select, summary, textarea, [tabindex]";
const CLICKABLE = "[x-on\\:click]";
const BUTTON = `${CLICKABLE}[role=button]`;
const FILTERS = `${BUTTON}[x-on\\:click*="filterOpen = true"]`;
// Those that show nothing but an icon.
const NAMES = { sidebar: "Navigation", openTheme: "Light or dark" };

function makeButton(control) {
  control.tabIndex = 0;
  control.setAttribute("role", "button");
  const action = control.getAttribute("x-on:click");
  const name = Object.keys(NAMES).find((word) => action.startsWith(word));
  if (name) {
    control.setAttribute("aria-label", NAMES[name]);
  }
}

// Alpine has written the words by then.
window.addEventListener("load", () => {
  const controls = [...document.querySelectorAll(CLICKABLE)].filter(
    (one) => one.textContent.trim() && !one.matches(FOCUSABLE) && !one.querySelector(FOCUSABLE),
  );
  controls.forEach(makeButton);
});

// Alpine shows them a moment after the click.
function focusFilters() {
  const all = document.querySelectorAll(`#changelist-filter :is(${FOCUSABLE})`);
  const first = [...all].find((one) => one.tabIndex >= 0 && one.checkVisibility());
  first ? first.focus() : requestAnimationFrame(focusFilters);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.closest("#changelist-filter")) {
    document.querySelector(FILTERS)?.focus();
  }
  if (!["Enter", " "].includes(event.key) || !event.target.matches(BUTTON)) {
    return;
  }
  event.preventDefault();
  event.target.click();
  if (event.target.matches(FILTERS)) {
    // They stand behind the list, which the keyboard would have to cross.
    focusFilters();
  }
});
