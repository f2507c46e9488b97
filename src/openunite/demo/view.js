// Structures in three dimensions, by 3Dmol.js, which is loaded when it is first needed.
"use strict";

const EDGES = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((corner) =>
  [1, 2, 4].filter((bit) => !(corner & bit)).map((bit) => [corner, corner | bit]));
let viewer = null;

function load3Dmol() {
  if (window.$3Dmol) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "3Dmol-min.js";
    script.onload = resolve;
    script.onerror = () => reject(new Error("the 3-D viewer could not be loaded"));
    document.head.append(script);
  });
}

function corner(cell, number) {
  const at = [0, 1, 2].map((axis) =>
    cell.reduce((sum, vector, i) => sum + (number >> i & 1) * vector[axis], 0));
  return { x: at[0], y: at[1], z: at[2] };
}

// Show a structure in an element; rejects where the browser has no WebGL.
async function showStructure(stage, structure) {
  await load3Dmol();
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  if (!viewer) viewer = $3Dmol.createViewer(stage, { backgroundColor: "white", antialias: true });
  if (!viewer) throw new Error("this browser has no WebGL, so only the picture is shown");
  viewer.setBackgroundColor(dark ? "#1e2125" : "#ffffff");
  viewer.clear();
  const lines = structure.elements.map((e, i) => `${e} ${structure.positions[i].join(" ")}`);
  const model = viewer.addModel(`${lines.length}\n\n${lines.join("\n")}\n`, "xyz");
  model.setStyle({}, { stick: { radius: 0.12 }, sphere: { scale: 0.28 } });
  for (const [from, to] of structure.cell ? EDGES : []) {
    viewer.addLine({
      start: corner(structure.cell, from), end: corner(structure.cell, to),
      color: dark ? "#a4a9b1" : "#5b6068",
    });
  }
  viewer.resize();
  viewer.zoomTo();
  viewer.render();
}

function turnStructure(event) {
  const turns = { ArrowLeft: [-15, "y"], ArrowRight: [15, "y"], ArrowUp: [-15, "x"], ArrowDown: [15, "x"] };
  if (!viewer || !turns[event.key]) return;
  event.preventDefault();
  viewer.rotate(...turns[event.key]);
  viewer.render();
}
