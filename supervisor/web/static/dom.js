// The page as descriptions: `h` describes an element, `patch` makes what stands in the document equal to it.
// Elements that are still right stay the same nodes, so focus, selection, scroll and what a reader has opened survive
// a redraw every second. Text always becomes a text node, never markup: no data can become code here.

const SVG = "http://www.w3.org/2000/svg";

/** Describe an element. Children: descriptions, strings, numbers, lists of these; null and false are left out. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter((child) => child ?? false) };
}

/** Make the children of `parent` these, in this order. `key` in the props tells brothers of one tag apart. */
export function patch(parent, ...children) {
  const wanted = children.flat(Infinity).filter((child) => child ?? false);
  const free = [...parent.childNodes];
  const nodes = wanted.map((child) => take(free, child) ?? create(parent, child));
  for (const node of free) node.remove();
  let place = parent.firstChild;
  for (const node of nodes) {
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place); // only what is new or has changed its place: moving takes the focus away
  }
  wanted.forEach((child, index) => update(nodes[index], child));
}

const shown = new WeakMap(); // node -> the props it was last given

function isText(child) {
  return typeof child === "string" || typeof child === "number";
}

function take(free, child) {
  const index = free.findIndex((node) => fits(node, child));
  return index < 0 ? undefined : free.splice(index, 1)[0];
}

function fits(node, child) {
  if (isText(child)) return node.nodeType === Node.TEXT_NODE;
  return (
    node.nodeType === Node.ELEMENT_NODE && node.localName === child.tag && shown.get(node)?.key === child.props.key
  );
}

function create(parent, child) {
  if (isText(child)) return document.createTextNode("");
  const namespace = child.tag === "svg" ? SVG : parent.namespaceURI;
  return document.createElementNS(namespace, child.tag);
}

function update(node, child) {
  if (isText(child)) {
    if (node.data !== String(child)) node.data = child;
    return;
  }
  patch(node, child.children); // before the props: the value of a select counts only among its options
  const before = shown.get(node) ?? {};
  for (const name of Object.keys({ ...before, ...child.props })) {
    if (before[name] !== child.props[name]) set(node, name, child.props[name]);
  }
  shown.set(node, child.props);
}

const SPECIAL = {
  key: () => {},
  style: (node, styles) => Object.entries(styles ?? {}).forEach(([name, value]) => node.style.setProperty(name, value)),
  checked: (node, value) => (node.checked = Boolean(value)),
  value: (node, value) => (node.value = value ?? ""),
};

function set(node, name, value) {
  if (SPECIAL[name]) SPECIAL[name](node, value);
  else if (name.startsWith("on")) node[name] = value ?? null;
  else if (value === undefined || value === null || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}
