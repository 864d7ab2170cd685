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

/* Counts the segments of a text while it is written; the server counts again. */
(function () {
  var text = document.getElementById("id_text"), told = document.getElementById("segments");
  if (!text || !told) { return; }
  var basic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
  var extended = "\f^{}\\[~]|€";

  function count() {
    var chars = Array.from(text.value);
    var gsm = chars.every(function (each) { return basic.includes(each) || extended.includes(each); });
    var widths = chars.map(function (each) { return gsm ? 1 + extended.includes(each) : each.length; });
    var total = widths.reduce(function (sum, each) { return sum + each; }, 0);
    var alone = gsm ? 160 : 70, joined = gsm ? 153 : 67, segments = 1, room = joined;
    if (total > alone) {
      widths.forEach(function (each) {
        if (each > room) { segments += 1; room = joined; }
        room -= each;
      });
    }
    told.textContent = total + " " + (gsm ? told.dataset.gsm : told.dataset.unicode) + ", " + segments + " " + told.dataset.sms;
  }

  text.addEventListener("input", count);
  count();
}());
