// The page of `openunite demo`: a form for each model, and the results of jobs.
"use strict";

const $ = (id) => document.getElementById(id);
const ACTIONS = {
  sample: ["Sample", (m) => `Make new ${m.things}.`,
    ["label", "count", "seed", "atoms", "conditions", "fine"]],
  steps: ["From noise to sample", () => "Watch one come out of noise, step by step.",
    ["label", "seed", "atoms", "conditions", "fine"]],
  walk: ["Walk", () => "Go from one sample to another in small steps.",
    ["label", "seed", "other_label", "other_seed", "atoms", "conditions", "fine"]],
  reconstruct: ["Take yours apart", () => "See what the model keeps of a file of yours.", ["upload"]],
  complete: ["Complete a half", () => "Keep half of a picture and let the model paint the rest.",
    ["upload", "half", "label", "seed", "conditions", "fine"]],
  nearest: ["Is it a copy?", () => "Look for the training pictures that are most like a sample.",
    ["label", "seed", "conditions", "fine"]],
};
const GO_ON = {
  steps: "Watch it come out of noise", walk: "Walk from it to another", complete: "Complete its half",
  nearest: "Is it a copy?",
};
const MOST_UPLOAD = 6000000;
let models = [];
let shown = [];
let timer = null;

function element(kind, values = {}, ...children) {
  const made = Object.assign(document.createElement(kind), values);
  made.append(...children);
  return made;
}

function say(words, bad = false) {
  $("status").textContent = words;
  $("status").classList.toggle("bad", bad);
}

const model = () => models[$("model").value];
const action = () => document.querySelector("input[name=action]:checked").value;

async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body && {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The demo does not answer; is it still running in its terminal?");
  }
  const values = await answer.json();
  if (!answer.ok) throw new Error(values.error);
  return values;
}

// ---- the form -------------------------------------------------------------------------------

function buildForm() {
  const chosen = model();
  const legend = $("actions").querySelector("legend");
  $("actions").replaceChildren(legend, ...chosen.actions.map((name, i) => {
    const [title, words] = ACTIONS[name];
    const radio = element("input", { type: "radio", name: "action", value: name, checked: !i });
    return element("label", { className: "choice" }, radio, title,
      element("small", { textContent: words(chosen) }));
  }));
  for (const id of ["label", "other_label"]) {
    const options = chosen.classes.map((name, i) => element("option", { value: i, textContent: name }));
    $(id).replaceChildren(...options);
  }
  $("other_label").value = Math.min(1, chosen.classes.length - 1);
  $("count").max = chosen.most_samples;
  $("count").value = Math.min(chosen.most_samples, 12);
  $("atoms").max = chosen.most_atoms || "";
  $("steps").value = chosen.steps;
  $("guidance").value = chosen.guidance;
  $("upload").accept = chosen.accepts.join(",");
  $("upload").value = "";
  buildConditions(chosen.conditions);
  showFields();
}

function buildConditions(conditions) {
  const [legend, words] = $("conditions").children;
  $("conditions").replaceChildren(legend, words, ...conditions.map((condition, i) => {
    const id = `condition-${i}`;
    const parts = [element("label", { htmlFor: id, textContent: condition.name })];
    if (condition.kind === "number") {
      const bound = (suffix, text) => element("input", {
        id: id + suffix, type: "number", step: "any", placeholder: text,
        ariaLabel: `${condition.name}, ${suffix ? "at most" : "at least"}`,
      });
      parts.push(element("span", { className: "pair" }, bound("", "at least"), bound("-to", "at most")));
    } else if (condition.names.length && !condition.several) {
      const any = element("option", { value: "", textContent: "any" });
      parts.push(element("select", { id }, any,
        ...condition.names.map((name) => element("option", { value: name, textContent: name }))));
    } else {
      parts.push(element("input", { id, type: "text", maxLength: 200 }));
    }
    parts.push(element("small", { textContent: condition.help }));
    return element("p", { className: "field" }, ...parts);
  }));
}

// The text of condition i as the command line takes it: "4..5", a name, a formula.
function conditionValue(condition, i) {
  const value = $(`condition-${i}`).value.trim();
  if (condition.kind !== "number") return value;
  const to = $(`condition-${i}-to`).value.trim();
  return value && value === to ? value : value || to ? `${value}..${to}` : "";
}

function showFields() {
  const chosen = model(), fields = ACTIONS[action()][2];
  const there = {
    label: chosen.classes.length > 0, other_label: chosen.classes.length > 0, atoms: chosen.sized,
    conditions: chosen.conditions.length > 0,
    guidance: chosen.classes.length + chosen.conditions.length > 0,
  };
  for (const part of document.querySelectorAll("[data-field]")) {
    const name = part.dataset.field;
    part.hidden = !(there[name] ?? true) || !(fields.includes(name) || name === "guidance");
  }
  labelChoices(chosen);
  $("go").textContent = ACTIONS[action()][0];
  const needed = action() === "reconstruct";
  $("upload").required = needed;
  const kinds = chosen.things === "images" ? "A picture" : `A file that ends in ${chosen.accepts.join(" or ")}`;
  const instead = needed ? "" : " Without one, the sample with this seed is used.";
  $("upload-help").textContent = `${kinds}; it stays on the machine that shows this page.${instead}`;
}

// "All in turn" where many are made, "any" where a half says what it is, else a class.
function labelChoices(chosen) {
  const words = { sample: "all in turn", complete: "any" }[action()];
  const free = [...$("label").options].find((option) => option.value === "");
  if (free) free.remove();
  if (words) $("label").prepend(element("option", { value: "", textContent: words }));
  if (words && !chosen.picked) $("label").value = "";
  if ($("label").selectedIndex < 0) $("label").selectedIndex = 0;
}

const whole = (id) => $(id).value === "" ? null : Number($(id).value);

async function readForm() {
  const chosen = model(), fields = ACTIONS[action()][2];
  const labelled = chosen.classes.length > 0;
  const conditions = Object.fromEntries(
    chosen.conditions.map((condition, i) => [condition.name, conditionValue(condition, i)]));
  return {
    count: whole("count"), seed: whole("seed"), other_seed: whole("other_seed"),
    steps: whole("steps"), guidance: Number($("guidance").value), half: $("half").value,
    label: labelled ? whole("label") : null, other_label: labelled ? whole("other_label") : null,
    atoms: chosen.sized ? whole("atoms") : null, conditions,
    upload: fields.includes("upload") ? await readFile() : null,
  };
}

async function readFile() {
  const file = $("upload").files[0];
  if (!file) return null;
  if (file.size > MOST_UPLOAD) {
    throw new Error(`Your file has ${file.size.toLocaleString()} bytes; at most ` +
      `${MOST_UPLOAD.toLocaleString()} are taken.`);
  }
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("Your browser could not read the file."));
    reader.readAsDataURL(file);
  });
  return { name: file.name, data: url.slice(url.indexOf(",") + 1) };
}

// ---- jobs -----------------------------------------------------------------------------------

async function run(event) {
  event.preventDefault();
  $("go").disabled = true;
  try {
    say("Sending ...");
    const form = await readForm();
    const { job } = await ask("api/jobs", { model: Number($("model").value), action: action(), form });
    showResult(await finished(job));
  } catch (error) {
    say(sentence(error.message), true);
  } finally {
    $("go").disabled = false;
  }
}

async function finished(job) {
  for (let wait = 150; ; wait = Math.min(1000, wait * 1.2)) {
    const found = await ask(`api/jobs/${job}`);
    if (found.state === "done") return found.result;
    if (found.state === "failed") throw new Error(found.message);
    const before = found.place === 1 ? "1 visitor is" : `${found.place} visitors are`;
    say(found.state === "waiting" && found.place ? `Waiting: ${before} before you.` : "Working ...");
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

const sentence = (text) => {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
};

// ---- results --------------------------------------------------------------------------------

function showResult(result) {
  shown = result.shown;
  stop();
  $("viewer").hidden = true;
  $("bar").hidden = true;
  const sliding = result.layout === "steps";
  const structures = shown.some((item) => item.structure);
  $("pictures").className = result.layout !== "grid" ? "large" : structures ? "medium" : "";
  $("scrub").hidden = !sliding;
  if (sliding) {
    $("slider").max = shown.length - 1;
    $("slider").value = shown.length - 1;
    showStep();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();
  } else {
    $("pictures").replaceChildren(...shown.map(figure));
  }
  say(result.words);
  if (matchMedia("(max-width: 50rem)").matches) $("result").scrollIntoView();
}

// A picture is a button: a click on it opens the bar with what can be done with it.
function figure(item) {
  const image = element("img", { src: `data:image/png;base64,${item.png}`, alt: item.label });
  image.className = model().things === "images" ? "pixels" : "";
  const button = element("button", { type: "button", className: "picture", ariaPressed: "false" }, image);
  button.addEventListener("click", () => pick(item, button));
  return element("figure", {}, button, element("figcaption", { textContent: item.label }));
}

function pick(item, button) {
  for (const other of document.querySelectorAll(".picture")) other.ariaPressed = "false";
  button.ariaPressed = "true";
  const parts = [element("strong", { textContent: item.label })];
  const add = (words, act) => {
    const made = element("button", { type: "button", textContent: words });
    made.addEventListener("click", act);
    parts.push(made);
  };
  if (item.structure) add("Turn in 3-D", () => view(item));
  if (item.choice) {
    for (const name of model().actions) {
      if (GO_ON[name]) add(GO_ON[name], () => goOn(name, item.choice));
    }
  }
  const name = `${item.label.replace(/[^\w]+/g, "-")}.png`;
  parts.push(element("a", { href: `data:image/png;base64,${item.png}`, download: name, textContent: "Save" }));
  $("bar").replaceChildren(...parts);
  $("bar").hidden = false;
}

// Take the class and the seed of a sample into the form, and do something else with it.
function goOn(name, choice) {
  $("seed").value = choice.seed;
  model().picked = true;
  document.querySelector(`input[name=action][value=${name}]`).click();
  if (choice.label !== null) $("label").value = choice.label;
  $("form").requestSubmit();
}

function showStep() {
  const item = shown[$("slider").value];
  const made = figure(item);
  $("pictures").replaceChildren(made);
  pick(item, made.querySelector("button"));
  $("slider").setAttribute("aria-valuetext", item.label);
  if (!$("viewer").hidden) view(item);
}

function play() {
  if (timer) return stop();
  if (Number($("slider").value) === shown.length - 1) $("slider").value = 0;
  $("play").textContent = "Stop";
  showStep();
  timer = setInterval(() => {
    $("slider").value = Number($("slider").value) + 1;
    showStep();
    if (Number($("slider").value) === shown.length - 1) stop();
  }, Math.max(60, Math.min(350, 4000 / shown.length)));
}

function stop() {
  clearInterval(timer);
  timer = null;
  $("play").textContent = "Play";
}

async function view(item) {
  if (!item.structure) return;
  const hidden = $("viewer").hidden;
  $("viewer").hidden = false;
  try {
    await showStructure($("stage"), item.structure);
    if (hidden) {
      $("viewer").scrollIntoView({ block: "nearest" });
      $("stage").focus();
    }
  } catch (error) {
    $("viewer").hidden = true;
    say(sentence(error.message), true);
  }
}

// ---- start ----------------------------------------------------------------------------------

async function start() {
  models = await ask("api/models");
  $("model").replaceChildren(...models.map((each, i) =>
    element("option", {
      value: i, textContent: each.name === each.things ? each.name : `${each.name} (${each.things})`,
    })));
  buildForm();
  $("form").hidden = false;
  say("Choose what it should do, and press the button.");
  $("model").addEventListener("change", buildForm);
  $("label").addEventListener("change", () => { model().picked = $("label").value !== ""; });
  $("actions").addEventListener("change", showFields);
  $("form").addEventListener("submit", run);
  $("next").addEventListener("click", () => { $("seed").value = Math.floor(Math.random() * 1e6); });
  $("slider").addEventListener("input", () => { stop(); showStep(); });
  $("play").addEventListener("click", play);
  $("close").addEventListener("click", () => { $("viewer").hidden = true; });
  $("stage").addEventListener("keydown", turnStructure);
}

start().catch((error) => say(sentence(error.message), true));
