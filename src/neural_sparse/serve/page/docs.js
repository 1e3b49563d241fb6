"use strict";
// The requests of /openapi.json as text.

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function kind(schema) {
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  if (schema.type === "object") return "object";
  const bounds = [["minimum", "at least"], ["maximum", "at most"], ["minLength", "at least"], ["maxLength", "at most"]]
    .filter(([name]) => name in schema)
    .map(([name, words]) => `${words} ${schema[name].toLocaleString("en")}${name.endsWith("Length") ? " characters" : ""}`);
  return [schema.type || "any", ...bounds].join(", ");
}

function rows(schema) {
  const table = element("table");
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const needed = (schema.required || []).includes(name) ? "required" : `default ${JSON.stringify(field.default)}`;
    const row = element("tr", "", element("td", "", element("code", name)), element("td", kind(field)),
      element("td", needed), element("td", field.description || ""));
    table.append(row);
  }
  return table;
}

async function start() {
  const all = await (await fetch("/openapi.json")).json();
  const place = document.getElementById("requests");
  for (const [path, methods] of Object.entries(all.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      const part = element("section", "", element("h2", `${method.toUpperCase()} ${path}`), element("p", about.summary));
      if (about.requestBody) {
        const name = about.requestBody.content["application/json"].schema.$ref.split("/").pop();
        part.append(rows(all.components.schemas[name]));
      }
      for (const one of about.parameters || []) part.append(element("p", `?${one.name}=${one.required ? "" : " (may be left out)"}`));
      place.append(part);
    }
  }
}

start();
