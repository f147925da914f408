import { signal } from "@preact/signals";

/** The task whose runs alone are shown, or an empty text for all. */
export const onlyTask = signal("");
