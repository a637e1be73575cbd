// What the page of a server with `--edit` writes: notes and tags of a run, and the layout.

import { fetchJson, post } from "./api.js";
import { announce, button, el, icon, setText } from "./dom.js";
import { layoutIn } from "./layout.js";
import { keepLayout, layoutNow } from "./state.js";

let isAllowed = false;
export const canEdit = () => isAllowed;

// The layout that is kept beside the runs, and whether this page may write.
export async function loadLayout() {
  const { layout, edit } = await fetchJson("/api/layout");
  isAllowed = edit;
  keepLayout(layoutIn(layout));
}

export async function keepForAll() {
  const { layout } = await post("/api/layout/keep", { layout: layoutNow() });
  keepLayout(layoutIn(layout));
  announce("The layout is kept beside the runs");
}

// The form on a run's page.
export class RemarksForm {
  /**
   * @param {string} id of the run
   * @param {() => void} onChange after an edit
   */
  constructor(id, onChange) {
    this.id = id;
    this.onChange = onChange;
    this.tags = el("span", { class: "edit-tags" });
    this.tag = this.input("Add a tag: one word", () => this.addTag());
    this.note = this.input("Add a note", () => this.addNote());
    this.name = this.input("Another name", () => this.rename());
    this.error = el("p", { class: "problem", role: "alert", hidden: true });
    const add = (label, action) => button(label, { class: "chip", onclick: action }, "Add");
    this.element = el(
      "div",
      { class: "remarks", hidden: true },
      this.tags,
      el(
        "span",
        { class: "edit-field" },
        this.tag,
        add("Add the tag", () => this.addTag()),
      ),
      el(
        "span",
        { class: "edit-field" },
        this.name,
        button("Rename the run", { class: "chip", onclick: () => this.rename() }, "Rename"),
      ),
      el(
        "span",
        { class: "edit-field wide" },
        this.note,
        add("Add the note", () => this.addNote()),
      ),
      this.error,
    );
  }

  input(label, onEnter) {
    const onkeydown = ({ key }) => key === "Enter" && onEnter();
    return el("input", { type: "text", "aria-label": label, placeholder: label, onkeydown });
  }

  /** @param {string[]} tags of the run */
  show(tags) {
    this.element.hidden = !canEdit();
    const mark = JSON.stringify(tags);
    if (mark === this.mark) return;
    this.mark = mark;
    const remove = (tag) => () => this.send("/api/tag", { tags: [`-${tag}`] });
    this.tags.replaceChildren(
      ...tags.map((tag) =>
        button(
          `Remove the tag ${tag}`,
          { class: "chip", onclick: remove(tag) },
          tag,
          icon("close"),
        ),
      ),
    );
  }

  async addTag() {
    const tag = this.tag.value.trim();
    if (tag && (await this.send("/api/tag", { tags: [`+${tag}`] }))) this.tag.value = "";
  }

  async addNote() {
    const text = this.note.value.trim();
    if (text && (await this.send("/api/note", { text }))) this.note.value = "";
  }

  async rename() {
    if (await this.send("/api/rename", { name: this.name.value })) this.name.value = "";
  }

  async send(path, fields) {
    try {
      const { tags } = await post(path, { id: this.id, ...fields });
      this.error.hidden = true;
      this.show(tags);
      this.onChange();
      return true;
    } catch (error) {
      setText(this.error, `Not saved: ${error.message}`);
      this.error.hidden = false;
      return false;
    }
  }
}
