/** Requested against used, and what to ask for next time. */

export interface Resources {
  cpus?: number;
  memory?: number;
  gpus?: number | string;
  walltime?: number;
  nodes?: number;
  partition?: string;
  [name: string]: unknown;
}

export interface Use {
  memory: number | null;
  walltime: number | null;
  /** Seconds of processor time. */
  cpu: number | null;
}

export interface Measure {
  what: "memory" | "time" | "CPUs";
  asked: number | null;
  used: number | null;
  /** Used divided by asked, where both are known. */
  share: number | null;
}

type Facts = Record<string, unknown>;

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** What the end of a task run says it used: the job itself, or else its scheduler. */
export function useOf(details: Facts | null | undefined): Use {
  const facts = details ?? {};
  const told = (typeof facts["used"] === "object" && facts["used"] !== null ? facts["used"] : {}) as Facts;
  return {
    memory: number(facts["max_rss"]) ?? number(told["memory"]) ?? number(told["max_rss"]),
    walltime: number(facts["elapsed"]) ?? number(told["walltime"]) ?? number(told["elapsed"]),
    cpu: number(facts["cpu"]) ?? number(told["cpu"]),
  };
}

export function measures(resources: Resources | null | undefined, use: Use): Measure[] {
  const asked = resources ?? {};
  const cpus = number(asked.cpus) ?? 1;
  const busy = use.cpu !== null && use.walltime ? use.cpu / use.walltime : null;
  const rows: [Measure["what"], number | null, number | null][] = [
    ["memory", number(asked.memory), use.memory],
    ["time", number(asked.walltime), use.walltime],
    ["CPUs", cpus, busy],
  ];
  return rows.map(([what, wanted, used]) => ({
    what,
    asked: wanted,
    used,
    share: wanted && used !== null ? used / wanted : null,
  }));
}

/** Runs shorter than this say little about what a longer one needs. */
const TELLING_SECONDS = 30;
const GIB = 2 ** 30;

function roundMemory(bytes: number): string {
  const mib = bytes / 2 ** 20;
  const step = mib < 1024 ? 256 : mib < 3072 ? 512 : mib < 16384 ? 1024 : 4096;
  const rounded = Math.ceil(mib / step) * step;
  return rounded % 1024 === 0 ? `${rounded / 1024}GB` : `${rounded}MB`;
}

function roundTime(seconds: number): string {
  const minutes = Math.max(5, Math.ceil(seconds / 60));
  if (minutes <= 60) return `${Math.ceil(minutes / 5) * 5}m`;
  const hours = Math.ceil(minutes / 30) / 2;
  return Number.isInteger(hours) ? `${hours}h` : `${Math.floor(hours)}h30m`;
}

/** Sentences that say what to change; none where the request fits. */
export function advice(
  resources: Resources | null | undefined,
  use: Use,
  stateName: string,
): string[] {
  const asked = resources ?? {};
  return [
    memoryAdvice(number(asked.memory), use, stateName),
    timeAdvice(number(asked.walltime), use, stateName),
    cpuAdvice(number(asked.cpus) ?? 1, use),
  ].filter((line): line is string => line !== null);
}

function memoryAdvice(asked: number | null, use: Use, stateName: string): string | null {
  if (stateName === "OutOfMemory") {
    const next = roundMemory(2 * Math.max(asked ?? GIB, use.memory ?? 0));
    return `It ran out of memory. Ask for more, for example memory="${next}".`;
  }
  if (asked === null || use.memory === null) return null;
  if (use.memory > 0.95 * asked) {
    return `It used almost all of its memory. memory="${roundMemory(1.3 * use.memory)}" is safer.`;
  }
  if (use.memory > 0.3 * asked || asked < 2 * GIB) return null;
  const share = Math.round((100 * use.memory) / asked);
  const next = roundMemory(1.3 * use.memory);
  return `It used ${share} % of its memory. memory="${next}" is enough and starts sooner.`;
}

function timeAdvice(asked: number | null, use: Use, stateName: string): string | null {
  if (stateName === "WalltimeExceeded") {
    const next = roundTime(2 * Math.max(asked ?? 0, use.walltime ?? 0));
    return `Its time was up. Ask for more, for example walltime="${next}", or save progress.`;
  }
  if (asked === null || use.walltime === null || stateName !== "Completed") return null;
  if (use.walltime > 0.9 * asked) {
    const next = roundTime(1.3 * use.walltime);
    return `It ended shortly before its time was up. walltime="${next}" is safer.`;
  }
  if (use.walltime > 0.3 * asked || asked < 1800 || use.walltime < TELLING_SECONDS) return null;
  const next = roundTime(1.5 * use.walltime);
  return `It used ${Math.round((100 * use.walltime) / asked)} % of its time. walltime="${next}" lets the scheduler start it sooner.`;
}

function cpuAdvice(cpus: number, use: Use): string | null {
  if (use.cpu === null || use.walltime === null || use.walltime < TELLING_SECONDS) return null;
  const busy = use.cpu / use.walltime;
  if (cpus > 1 && busy < 0.5 * cpus) {
    const next = Math.max(1, Math.ceil(busy));
    return `It kept ${busy.toFixed(1)} of ${cpus} CPUs busy. cpus=${next} costs less; or let it use them all.`;
  }
  return null;
}
