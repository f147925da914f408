/** The nine types of states: order, words, letters and shapes. Colour never stands alone. */

export const STATE_TYPES = [
  "COMPLETED",
  "RUNNING",
  "PENDING",
  "SCHEDULED",
  "PAUSED",
  "CANCELLING",
  "CANCELLED",
  "FAILED",
  "CRASHED",
] as const;

export type StateType = (typeof STATE_TYPES)[number];

interface Look {
  /** The word that people read. */
  word: string;
  /** One letter, for canvases and narrow places; no two types share one. */
  letter: string;
  /** Strokes of the icon in a field of 16 × 16. */
  strokes: string;
  /** A filled shape is an end; an open one still goes on. */
  filled: boolean;
  /** What the type means, for tooltips. */
  meaning: string;
}

export const LOOKS: Readonly<Record<StateType, Look>> = {
  COMPLETED: {
    word: "Completed",
    letter: "C",
    strokes: "M4.5 8.4 7 10.9l4.7-5.4",
    filled: true,
    meaning: "it ended and gave its result",
  },
  RUNNING: {
    word: "Running",
    letter: "R",
    strokes: "M6.4 5.2v5.6L11 8z",
    filled: false,
    meaning: "its code runs",
  },
  PENDING: {
    word: "Pending",
    letter: "P",
    strokes: "M8 4.9V8l2.2 1.5",
    filled: false,
    meaning: "it waits: for others, or in the scheduler's queue",
  },
  SCHEDULED: {
    word: "Scheduled",
    letter: "S",
    strokes: "M5 8h.01M8 8h.01M11 8h.01",
    filled: false,
    meaning: "it is to start at a later time",
  },
  PAUSED: {
    word: "Paused",
    letter: "H",
    strokes: "M6.4 5.4v5.2M9.6 5.4v5.2",
    filled: false,
    meaning: "a person holds it",
  },
  CANCELLING: {
    word: "Cancelling",
    letter: "G",
    strokes: "M5.3 10.7l5.4-5.4",
    filled: false,
    meaning: "it was asked to stop and has not stopped yet",
  },
  CANCELLED: {
    word: "Cancelled",
    letter: "A",
    strokes: "M5 11l6-6",
    filled: true,
    meaning: "a person stopped it",
  },
  FAILED: {
    word: "Failed",
    letter: "F",
    strokes: "M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4",
    filled: true,
    meaning: "the user's own code raised",
  },
  CRASHED: {
    word: "Crashed",
    letter: "X",
    strokes: "M8.8 4 5.6 8.6h4.8L7.2 12.4",
    filled: true,
    meaning: "the machinery lost it: memory, walltime, node, …",
  },
};

const FINAL: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]);

/** Whether a run in a state of this type does not change any more. */
export function isFinal(type: string): boolean {
  return FINAL.has(type);
}

/** Narrow a text of the server; a type of a newer server counts as pending rather than breaks. */
export function asStateType(type: string): StateType {
  return (STATE_TYPES as readonly string[]).includes(type) ? (type as StateType) : "PENDING";
}

/** The CSS variable with the colour of a type, such as `--state-failed`. */
export function stateVariable(type: string): string {
  return `--state-${asStateType(type).toLowerCase()}`;
}
