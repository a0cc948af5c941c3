"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, className = "", text = "") => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  };
  const MARGIN_S = 1, FIRST_GUESS_S = 8;
  const video = $("video");
  let session = null;  // what the server said, at the start and behind each answer
  let items = [];      // its questions, and stretches that somebody went back to
  let at = 0;
  let edges = [0, 0];  // of what is judged, as dragged
  let view = [0, 1];   // what the timeline shows
  let naming = "";     // "relabel" or "add" while a label is asked for
  let wholeAsked = false, sending = false, told = [], lastAnswer = null;

  // Words and times.
  const ms = (seconds) => Math.round(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const nameOf = (label) => (session.labels.find((each) => each.id === label) || { name: label }).name;
  const hueOf = (label) => (session.labels.find((each) => each.id === label) || { hue: 190 }).hue;
  const recording = () => session.recordings[item().recording];
  const item = () => items[at];
  const length = (seconds) => seconds < 60 ? `${seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds)} s`
    : `${Math.floor(Math.round(seconds) / 60)} min ${two(Math.round(seconds) % 60)} s`;
  const clock = (seconds, tenths = false) => {
    const { clock_s: start } = recording();
    const total = Math.max(0, Math.round(((start ?? 0) + seconds) * 10) / 10);
    const whole = Math.floor(total), hours = Math.floor(whole / 3600) % 24;
    const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}${tenths ? `.${Math.round((total - whole) * 10) % 10}` : ""}`;
    return start === null && hours === 0 ? rest : `${start === null ? hours : two(hours)}:${rest}`;
  };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // What the server knows.
  const ask = async (path, body) => {
    const request = body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    };
    const answer = await fetch(path, request);
    const content = await answer.json().catch(() => ({ error: `${answer.status}` }));
    if (!answer.ok) throw new Error(content.error || `${answer.status}`);
    return content;
  };
  const who = () => $("who").value.trim();
  const say = (text, isBad = false) => {
    $("message").textContent = text;
    $("message").classList.toggle("bad", isBad);
  };
  const answerOf = (each) => {
    const id = each.number === undefined ? each.answer : session.answers[each.number];
    return session.verdicts.find((verdict) => verdict.id === id) || null;
  };

  const send = async (fields) => {
    if (!who()) { say("Say first who is reviewing, at the top.", true); $("who").focus(); return null; }
    if (sending) return null;
    sending = true;
    try {
      const now = await ask("corrections", { recording: item().recording, who: who(), ...fields });
      Object.assign(session.events, now.events);
      Object.assign(session.complete, now.complete);
      Object.assign(session, { answers: now.answers, verdicts: now.verdicts });
      return now.id;
    } catch (error) {
      say(error instanceof TypeError ? "The program does not answer: is `diary review` still running? This was not kept."
        : `This was not kept: ${error.message}`, true);
      return null;
    } finally {
      sending = false;
    }
  };
  const stated = () => {
    const each = item();
    return { label: each.label, start_s: each.start_s, end_s: each.end_s, event_id: each.event_id,
      probability: each.probability, sampling: each.sampling };
  };

  // Answers.
  const moved = () => ms(edges[0]) !== ms(item().start_s) || ms(edges[1]) !== ms(item().end_s);
  const settle = async (fields, text) => {
    const current = item(), before = answerOf(current);
    if (before && before.verdict === fields.verdict && fields.verdict !== "change") {
      const isLast = !items.some(isOpen);
      if (!isLast) advance();
      say(isLast ? "You said so already, and all questions are answered." : "You had said so already.");
      return;
    }
    const id = await send(fields);
    if (!id) return;
    if (current.number === undefined) current.answer = id;
    told.push(id);
    const now = performance.now();
    if (lastAnswer !== null) pace.push((now - lastAnswer) / 1000);
    lastAnswer = now;
    advance();
    say(items.some(isOpen) ? text : `${text} All questions are answered; the pages of the diary follow.`);
  };
  const pace = [];
  const change = (label) => settle({ ...stated(), verdict: "change", new_label: label, new_start_s: edges[0], new_end_s: edges[1] },
    label === item().label ? "Kept, with other edges." : `Kept as ${nameOf(label)}.`);
  const isQuiet = () => !item().label;
  // Only what was drawn stands for more than itself: no other stretch has the item's chance.
  const isAsked = (start_s, end_s) => isQuiet() && ms(start_s) === ms(item().start_s) && ms(end_s) === ms(item().end_s);
  const complete = (start_s, end_s) => ({
    verdict: "complete", start_s, end_s, sampling: isAsked(start_s, end_s) ? item().sampling : "",
  });
  const right = () => {
    if (isQuiet()) return settle(complete(item().start_s, item().end_s), "Kept: nothing else is on there.");
    return moved() ? change(item().label) : settle({ ...stated(), verdict: "right" }, "Kept as right.");
  };
  const wrong = () => isQuiet() ? openNaming("add") : settle({ ...stated(), verdict: "wrong" }, "Kept as wrong.");
  const skip = () => settle({ ...stated(), verdict: "skip" }, "Skipped.");
  const stay = async (fields, text) => {
    const id = await send(fields);
    if (!id) return;
    told.push(id);
    show(false);
    say(text);
  };
  const addEvent = (label) => stay({ verdict: "add", label, start_s: edges[0], end_s: edges[1], sampling: item().sampling },
    `Added: ${nameOf(label)}, ${clock(edges[0])} to ${clock(edges[1])}.`);
  const completeHere = () => stay(complete(...edges), `Kept: nothing else is on from ${clock(edges[0])} to ${clock(edges[1])}.`);
  const completeAll = () => {
    if (!wholeAsked) {
      wholeAsked = true;
      say(`Once more to say that nothing else is on in all of ${recording().file}.`);
      return null;
    }
    wholeAsked = false;
    return stay(complete(0, recording().duration_s), `Kept: ${recording().file} is complete.`);
  };
  const undo = async () => {
    const given = session.verdicts.filter((verdict) => verdict.who === who());
    const last = given.find((verdict) => verdict.id === told[told.length - 1]) || given[given.length - 1];
    if (!last) { say("There is nothing to undo."); return; }
    const place = items.findIndex((each) => { const answer = answerOf(each); return answer && answer.id === last.id; });
    const id = await send({ recording: last.recording, verdict: "undo", undoes: last.id });
    if (!id) return;
    told = told.filter((each) => each !== last.id);
    if (place >= 0) at = place;
    show();
    say(`Undone: ${words(last)}.`);
  };

  // Going through the questions.
  const isOpen = (each) => each.number !== undefined && session.answers[each.number] === null;
  const advance = () => {
    const order = [...items.keys()].slice(at + 1).concat([...items.keys()].slice(0, at + 1));
    const next = order.find((place) => isOpen(items[place]));
    if (next !== undefined) at = next;
    show(next !== undefined);
  };
  const step = (by) => { at = clamp(at + by, 0, items.length - 1); say(""); show(); };

  const showProgress = () => {
    const asked = items.filter((each) => each.number !== undefined);
    const done = asked.filter((each) => !isOpen(each)).length, left = asked.length - done;
    const recent = pace.slice(-15).sort((a, b) => a - b);
    const seconds = left * Math.min(60, recent.length > 2 ? recent[Math.floor(recent.length / 2)] : FIRST_GUESS_S);
    const minutes = Math.round(seconds / 60);
    const time = minutes < 1 ? "less than a minute left" : `about ${minutes} ${minutes === 1 ? "minute" : "minutes"} left`;
    $("progress").textContent = asked.length === 0 ? "Nothing is left to ask" : left ? `${done} of ${asked.length}, ${time}`
      : `All ${asked.length} answered`;
    $("bar").max = Math.max(1, asked.length);
    $("bar").value = done;
    document.title = left ? `Review (${done} of ${asked.length})` : "Review";
  };

  const words = (verdict) => {
    const name = verdict.label && nameOf(verdict.label);
    switch (verdict.verdict) {
      case "change": return verdict.new_label === verdict.label ? `${name}, other edges` : `${nameOf(verdict.new_label)}, not ${name}`;
      case "add": return `${name}, added`;
      case "complete": return "nothing else is on";
      case "note": return `note: ${verdict.note}`;
      case "skip": return `skipped ${name || "a quiet stretch"}`;
      default: return `${name} is ${verdict.verdict}`;
    }
  };
  const SIGNS = { right: "✓", wrong: "✗", change: "↻", add: "+", complete: "▭", skip: "–", note: "✎" };
  const showGiven = () => {
    const own = session.verdicts.filter((verdict) => verdict.who === who()).reverse();
    const others = session.verdicts.length - own.length;
    $("none").textContent = others ? `By others: ${others}. They are not shown, so that you judge for yourself.` : "Nothing yet.";
    $("none").hidden = own.length > 0 && !others;
    $("given").replaceChildren(...own.map((verdict) => {
      const row = make("li", verdict.verdict), button = make("button");
      button.type = "button";
      const sign = make("b", "", SIGNS[verdict.verdict]);
      sign.setAttribute("aria-hidden", "true");
      button.append(sign, make("span", "what", words(verdict)), make("small", "", verdict.when_in));
      button.addEventListener("click", () => goBack(verdict));
      row.append(button);
      return row;
    }));
  };
  const goBack = (verdict) => {
    const place = items.findIndex((each) => { const answer = answerOf(each); return answer && answer.id === verdict.id; });
    if (place >= 0) { at = place; } else {
      const changed = verdict.verdict === "change", isStated = ["right", "wrong", "skip"].includes(verdict.verdict);
      items.splice(at + 1, 0, {
        recording: verdict.recording, label: changed ? verdict.new_label : verdict.label, event_id: isStated ? verdict.event_id : "",
        start_s: changed ? verdict.new_start_s : verdict.start_s, end_s: changed ? verdict.new_end_s : verdict.end_s,
        probability: isStated ? verdict.probability : null, sampling: isStated ? verdict.sampling : "", answer: verdict.id,
      });
      at += 1;
    }
    say("");
    show();
    $("ask").scrollIntoView({ block: "nearest" });
  };

  // The question.
  const show = (fresh = true) => {
    showProgress();
    showGiven();
    if (!items.length) {
      $("ask").textContent = "Nothing is left to ask.";
      $("where").textContent = $("sure").textContent = "";
      for (const button of document.querySelectorAll(".clip, .verdicts, .more")) button.hidden = true;
      return;
    }
    const each = item(), answer = answerOf(each);
    wholeAsked = false;
    if (fresh) {
      closeForms();
      edges = [each.start_s, each.end_s];
      const margin = clamp((each.end_s - each.start_s) * 0.6, 4, 30);
      view = [Math.max(0, each.start_s - margin), Math.min(recording().duration_s, each.end_s + margin)];
      load();
    }
    const added = session.events[each.recording].filter((event) => event.confirmed
      && event.start_s < each.end_s && event.end_s > each.start_s).length;
    const isShort = each.end_s - each.start_s < 10;
    $("where").textContent = [recording().file, recording().day, `${clock(each.start_s, isShort)}–${clock(each.end_s, isShort)}`,
      length(each.end_s - each.start_s)].filter(Boolean).join(" · ");
    $("ask").textContent = isQuiet() ? "Is anything on here?" : `${nameOf(each.label)}?`;
    $("sure").textContent = isQuiet() ? "The diary has no event in this stretch. Only activities that it knows count."
      : each.probability === null ? "A person added it." : `The model gives it ${percent(each.probability)}${each.told === false ? "; the diary does not tell it" : ""}.`;
    $("said").hidden = !answer;
    $("said").textContent = answer ? `You said: ${words(answer)}.` : "";
    $("right").lastElementChild.textContent = isQuiet() ? (added ? "Nothing else" : "Nothing")
      : moved() ? "Right, as moved" : "Right";
    $("wrong").lastElementChild.textContent = isQuiet() ? "Something" : "Wrong";
    $("relabel").disabled = isQuiet();
    $("back").disabled = at === 0;
    $("next").disabled = at === items.length - 1;
    $("reset").hidden = !moved();
    drawTimeline();
  };
  const percent = (share) => share > 0.995 ? "over 99%" : share < 0.005 ? "under 1%" : `${Math.round(share * 100)}%`;

  // The clip.
  const loop = () => [Math.max(0, edges[0] - MARGIN_S), Math.min(recording().duration_s, edges[1] + MARGIN_S)];
  const fail = (text) => {
    const times = recording().pictures_ms, middle = ms((item().start_s + item().end_s) / 2);
    const nearest = times.reduce((best, time) => best === null || Math.abs(time - middle) < Math.abs(best - middle) ? time : best, null);
    $("picture").hidden = nearest === null;
    if (nearest !== null) $("picture").src = `picture/${encodeURIComponent(item().recording)}/${nearest}`;
    $("fault").textContent = text;
    $("fault").hidden = false;
    video.hidden = true;
  };
  const load = () => {
    const { recording: name } = item(), src = `video/${encodeURIComponent(name)}`;
    if (!recording().video) { fail("The video is not where it was. Judge by the picture, or move it back and start again."); return; }
    if (video.dataset.src !== src) {
      video.dataset.src = src;
      video.hidden = false;
      $("fault").hidden = $("picture").hidden = true;
      video.src = src;
    } else if (video.error) {
      fail($("fault").textContent);
      return;
    }
    seek(loop()[0]);
    play(true);
  };
  const seek = (seconds) => {
    if (video.readyState > 0) { video.currentTime = seconds; } else { video.dataset.start = seconds; }
  };
  const play = (on) => {
    if (on) { video.play().catch(() => {}); } else { video.pause(); }
  };
  video.addEventListener("loadedmetadata", () => {
    video.playbackRate = Number(video.dataset.rate || 1);
    if (video.dataset.start) { video.currentTime = Number(video.dataset.start); delete video.dataset.start; }
  });
  video.addEventListener("error", async () => {
    const reason = await fetch(video.src, { headers: { Range: "bytes=0-0" } }).then((answer) => answer.ok ? null : answer.json())
      .catch(() => ({ error: "the program does not answer" }));
    fail(reason ? `It cannot be played: ${reason.error}.` : "This browser cannot play this kind of video. Judge by the picture, or use another browser.");
  });
  for (const name of ["play", "pause"]) {
    video.addEventListener(name, () => { $("play").lastElementChild.textContent = video.paused ? "Play" : "Pause"; });
  }
  const toggleSpeed = () => {
    const rate = { 1: 2, 2: 4, 4: 0.5, 0.5: 1 }[video.playbackRate] || 1;
    video.dataset.rate = rate;
    video.playbackRate = rate;
    $("speed").lastElementChild.textContent = `${rate}×`;
  };
  const toggleSound = () => { video.muted = !video.muted; $("sound").setAttribute("aria-pressed", String(!video.muted)); };
  const tick = () => {
    if (items.length && !dragging) {
      const [low, high] = loop(), now = video.currentTime;
      if (!video.seeking && video.readyState > 0 && (now >= high || video.ended || now < low - 0.5 && !video.paused)) {
        video.currentTime = low;
        if (video.ended) play(true);
      }
      $("head").style.left = `${place(clamp(now, ...view))}%`;
      $("clock").textContent = video.readyState || video.hidden ? clock(now, true) : "Looking whether it is still the same video…";
    }
    requestAnimationFrame(tick);
  };

  // The timeline and the edges.
  let dragging = null;
  const place = (seconds) => (seconds - view[0]) / (view[1] - view[0]) * 100;
  const drawTimeline = () => {
    const lanes = [], bars = [];
    for (const event of session.events[item().recording]) {
      if (event.end_s <= view[0] || event.start_s >= view[1]) continue;
      const lane = lanes.findIndex((end) => end <= event.start_s);
      const row = lane < 0 ? lanes.length : lane;
      lanes[row] = event.end_s;
      const bar = make("div", event.confirmed ? "bar confirmed" : "bar", nameOf(event.label));
      const from = clamp(event.start_s, ...view), to = clamp(event.end_s, ...view);
      bar.style.cssText = `left:${place(from)}%;width:${place(to) - place(from)}%;top:${row * 23}px`;
      bar.style.setProperty("--hue", hueOf(event.label));
      bars.push(bar);
    }
    $("lanes").style.height = `${lanes.length * 23}px`;
    $("lanes").replaceChildren(...bars);
    $("lanes").setAttribute("aria-label", `Around the clip: ${bars.map((bar) => bar.textContent).join(", ") || "no event"}`);
    for (const mark of document.querySelectorAll(".looked")) mark.remove();
    for (const [start, end] of session.complete[item().recording]) {
      const mark = make("div", "looked"), from = clamp(start, ...view), to = clamp(end, ...view);
      if (from >= to) continue;
      mark.style.cssText = `left:${place(from)}%;width:${place(to) - place(from)}%`;
      mark.title = "Said to be complete";
      $("band").prepend(mark);
    }
    const span = view[1] - view[0], every = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((each) => span / each <= 6) || 1800;
    const offset = recording().clock_s ?? 0, ticks = [];
    for (let t = Math.ceil((view[0] + offset) / every) * every - offset; t <= view[1]; t += every) {
      const label = make("span", "", clock(t));
      label.style.left = `${place(t)}%`;
      if (place(t) > 4 && place(t) < 96) ticks.push(label);
    }
    ticks.unshift(make("span"));
    ticks.push(make("span"));
    $("ticks").replaceChildren(...ticks);
    drawEdges();
  };
  const drawEdges = () => {
    const [from, to] = edges.map((edge) => place(clamp(edge, ...view)));
    $("chosen").style.cssText = `left:${from}%;width:${to - from}%`;
    $("chosen").style.setProperty("--hue", hueOf(item().label));
    $("chosen").classList.toggle("quiet", isQuiet());
    ["start", "end"].forEach((name, side) => {
      const handle = $(name);
      handle.style.left = `${[from, to][side]}%`;
      handle.setAttribute("aria-valuemin", "0");
      handle.setAttribute("aria-valuemax", String(recording().duration_s));
      handle.setAttribute("aria-valuenow", edges[side].toFixed(1));
      handle.setAttribute("aria-valuetext", clock(edges[side], true));
    });
    $("reset").hidden = !moved();
    if (!isQuiet()) $("right").lastElementChild.textContent = moved() ? "Right, as moved" : "Right";
  };
  const moveEdge = (side, seconds) => {
    const limits = side ? [edges[0] + 0.1, recording().duration_s] : [0, edges[1] - 0.1];
    edges[side] = Math.round(clamp(seconds, ...limits) * 1000) / 1000;
    const outside = edges[0] < view[0] || edges[1] > view[1];
    if (outside) view = [Math.min(view[0], Math.max(0, edges[0] - 2)), Math.max(view[1], Math.min(recording().duration_s, edges[1] + 2))];
    if (outside) drawTimeline(); else drawEdges();
  };
  const timeAt = (event) => {
    const box = $("band").getBoundingClientRect();
    return view[0] + clamp((event.clientX - box.left) / box.width, 0, 1) * (view[1] - view[0]);
  };
  ["start", "end"].forEach((name, side) => {
    const handle = $(name);
    handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      handle.focus();
      handle.setPointerCapture(event.pointerId);
      dragging = { side, wasPlaying: !video.paused };
      play(false);
    });
    handle.addEventListener("pointermove", (event) => {
      if (!dragging || dragging.side !== side) return;
      moveEdge(side, timeAt(event));
      seek(edges[side]);
      $("head").style.left = `${place(edges[side])}%`;
      $("clock").textContent = clock(edges[side], true);
    });
    const drop = () => {
      if (!dragging) return;
      const { wasPlaying } = dragging;
      dragging = null;
      seek(side ? Math.max(loop()[0], edges[1] - 1.5) : loop()[0]);
      if (wasPlaying) play(true);
    };
    handle.addEventListener("pointerup", drop);
    handle.addEventListener("pointercancel", drop);
    handle.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1, PageDown: -1, PageUp: 1 }[event.key];
      if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      moveEdge(side, edges[side] + (event.shiftKey ? by * 10 : by));
      seek(side ? Math.max(loop()[0], edges[1] - 1) : edges[0]);
    });
  });
  $("band").addEventListener("pointerdown", (event) => { if (!event.target.closest(".handle")) seek(timeAt(event)); });
  const reset = () => { edges = [item().start_s, item().end_s]; show(false); };

  // Labels, typed.
  let fitting = [], marked = 0;
  const openNaming = (purpose) => {
    if (purpose === "relabel" && isQuiet()) return;
    closeForms();
    naming = purpose;
    $("naming-for").textContent = purpose === "add" ? `What is on from ${clock(edges[0])} to ${clock(edges[1])}?` : "What is it instead?";
    $("naming").hidden = false;
    $("label").value = "";
    complain("");
    suggest();
    $("label").focus();
  };
  const complain = (text) => { if (text) say(text, true); };
  const suggest = () => {
    const parts = $("label").value.toLowerCase().split(/\s+/).filter(Boolean);
    const begins = (name) => name.toLowerCase().startsWith($("label").value.trim().toLowerCase()) ? 0 : 1;
    fitting = session.labels.filter(({ name }) => parts.every((part) => name.toLowerCase().includes(part)))
      .sort((a, b) => begins(a.name) - begins(b.name));
    marked = 0;
    $("labels").replaceChildren(...fitting.map((label, number) => {
      const option = make("li"), dot = make("i", "dot");
      dot.style.setProperty("--hue", label.hue);
      option.id = `label-${number}`;
      option.setAttribute("role", "option");
      option.append(dot, make("span", "", label.name));
      option.addEventListener("pointerdown", (event) => event.preventDefault());
      option.addEventListener("click", () => { marked = number; take(); });
      return option;
    }));
    $("label").setAttribute("aria-expanded", String(fitting.length > 0));
    mark();
  };
  const mark = () => {
    [...$("labels").children].forEach((option, number) => {
      option.setAttribute("aria-selected", String(number === marked));
      if (number === marked) option.scrollIntoView({ block: "nearest" });
    });
    if (fitting.length) $("label").setAttribute("aria-activedescendant", `label-${marked}`);
    else $("label").removeAttribute("aria-activedescendant");
  };
  const take = () => {
    const label = fitting[marked], purpose = naming;
    if (!label) { complain("The model knows no such activity."); return; }
    closeForms();
    if (purpose === "add") addEvent(label.id);
    else if (label.id === item().label) right();
    else change(label.id);
  };
  const closeForms = () => {
    const held = document.activeElement && document.activeElement.closest(".naming");
    naming = "";
    $("naming").hidden = $("noting").hidden = true;
    if (held) document.activeElement.blur();
  };
  $("label").addEventListener("input", suggest);
  $("label").addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (fitting.length) marked = (marked + (event.key === "ArrowDown" ? 1 : fitting.length - 1)) % fitting.length;
      mark();
    }
  });
  $("naming").addEventListener("submit", (event) => { event.preventDefault(); take(); });
  const openNote = () => { closeForms(); $("noting").hidden = false; $("note").value = ""; $("note").focus(); };
  $("noting").addEventListener("submit", (event) => {
    event.preventDefault();
    const note = $("note").value.trim();
    closeForms();
    if (note) stay({ ...stated(), start_s: edges[0], end_s: edges[1], verdict: "note", note }, "The note is kept.");
  });

  // Keys and buttons.
  const actions = {
    right, wrong, skip, undo, add: () => openNaming("add"), relabel: () => openNaming("relabel"), complete: completeHere,
    whole: completeAll, remark: openNote, back: () => step(-1), next: () => step(1), play: () => play(video.paused),
    speed: toggleSpeed, sound: toggleSound, from: () => moveEdge(0, video.currentTime), to: () => moveEdge(1, video.currentTime), reset,
  };
  const keys = { y: "right", n: "wrong", s: "skip", u: "undo", a: "add", r: "relabel", c: "complete", C: "whole", t: "remark",
    ArrowLeft: "back", ArrowRight: "next", " ": "play", v: "speed", m: "sound", i: "from", o: "to" };
  const act = (name) => {
    if (!items.length && name !== "undo") return;
    if (name !== "whole") wholeAsked = false;
    actions[name]();
  };
  for (const name of Object.keys(actions)) $(name).addEventListener("click", () => act(name));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape") {
      if (!$("naming").hidden || !$("noting").hidden) closeForms();
      else if (items.length) reset();
      return;
    }
    if (event.target.closest("input")) return;
    if (event.key === " " && event.target.closest("button")) return;  // it presses the button
    const name = keys[event.key.length === 1 && event.key !== "C" ? event.key.toLowerCase() : event.key];
    if (!name || event.repeat && !["back", "next"].includes(name)) return;
    event.preventDefault();
    act(name);
  });

  const start = async () => {
    const name = sessionStorage.getItem("who");
    session = await ask(name ? `session?who=${encodeURIComponent(name)}` : "session");
    $("who").value = session.who;
    items = session.items.map((each, number) => ({ ...each, number }));
    const first = items.findIndex(isOpen);
    at = Math.max(0, first);
    show();
    lastAnswer = performance.now();
    requestAnimationFrame(tick);
  };
  $("who").addEventListener("change", async () => {
    if (!who()) { say("Say who is reviewing.", true); return; }
    sessionStorage.setItem("who", who());
    session = await ask(`session?who=${encodeURIComponent(who())}`);
    told = [];
    at = Math.max(0, items.findIndex(isOpen));
    say(`Answers are now ${who()}'s.`);
    show();
  });
  start().catch((error) => { $("progress").textContent = "The program does not answer"; say(String(error.message), true); });
})();
