/* Replaces the live part of a page every few seconds; the reader's place and what is open stay. */
"use strict";
(function () {
  var live = document.getElementById("live");
  if (!live) { return; }
  var every = Number(live.dataset.every || 5) * 1000;

  function opened() {
    return Array.prototype.map.call(live.querySelectorAll("details"), function (each) { return each.open; });
  }

  function replace(text) {
    var fresh = new DOMParser().parseFromString(text, "text/html").getElementById("live");
    if (!fresh) { return; }
    var open = opened();
    live.replaceChildren.apply(live, Array.prototype.slice.call(fresh.childNodes));
    Array.prototype.forEach.call(live.querySelectorAll("details"), function (each, place) {
      each.open = Boolean(open[place]);
    });
  }

  function refresh() {
    if (document.hidden || live.contains(document.activeElement)) { return; }
    fetch(location.href, { credentials: "same-origin" })
      .then(function (answer) { return answer.ok ? answer.text() : ""; })
      .then(replace)
      .catch(function () { /* the next time */ });
  }

  setInterval(refresh, every);
}());
