// Fields of forms, and where refusals are shown.
import { element } from "../formats.js";

// A field is told by its name in the API, so that a refusal finds it.
const KIND = { number: { inputMode: "decimal" }, text: {}, date: { type: "date" } };

export function field(parent, name, label, { kind = "text", value = "", help = "", choices = null, wide = false } = {}) {
  const box = element("div", "", `field${wide ? " wide" : ""}`), id = `f-${name.replaceAll(".", "-")}`;
  const title = element("label", label), error = element("small", "", "field-error");
  title.htmlFor = id;
  let input;
  if (kind === "switch") {
    input = element("input");
    input.type = "checkbox";
    input.checked = value;
    box.classList.add("switch");
  } else if (choices) {
    input = element("select");
    for (const [key, text] of choices) {
      const option = element("option", text);
      option.value = key;
      input.append(option);
    }
    input.value = value;
  } else {
    input = element("input");
    Object.assign(input, KIND[kind], { value: value ?? "", autocomplete: "off" });
  }
  input.id = id;
  input.dataset.field = name;
  error.id = `${id}-error`;
  input.setAttribute("aria-describedby", error.id);
  box.append(title, input, element("small", help, "help"), error);
  parent.append(box);
  return input;
}

export const words = (name) => name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase()).replace(/ percent$/, ", %");
export const list = (text) => text.split(",").map((each) => each.trim()).filter(Boolean);

// Beside each field what is wrong with it; what belongs to none is told in `summary`.
export function showErrors(form, summary, error) {
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  for (const each of form.querySelectorAll(".field-error")) each.textContent = "";
  const rest = [];
  let first = null;
  for (const { field: name, rule } of error?.fields ?? []) {
    const input = form.querySelector(`[data-field="${CSS.escape(name)}"]`);
    if (!input) rest.push(`${name}: ${rule}`);
    else {
      input.setAttribute("aria-invalid", "true");
      document.getElementById(`${input.id}-error`).textContent = rule;
      const within = input.closest("details");
      if (within) within.open = true;
      first ??= input;
    }
  }
  if (error && (!first || rest.length)) rest.unshift(error.message);
  summary.textContent = rest.join("; ");
  summary.hidden = !rest.length;
  first?.focus();
}
