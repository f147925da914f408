/** Who looks: the person of the cookie, what they may do, and which server this is. */

import { signal } from "@preact/signals";
import type { Me, Scope } from "./api/types";
import { ApiError, asSentence, get, send, signedOut } from "./api/client";
import { hangUp, listen } from "./api/live";

export const me = signal<Me | null>(null);

/** Why nobody is known yet although nobody said 401: the server is away, say. */
export const trouble = signal<string | null>(null);

/** Ask who looks; without a session the login shows. */
export async function begin(): Promise<void> {
  try {
    me.value = await get<Me>("me");
    trouble.value = null;
    signedOut.value = false;
    listen();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return;
    trouble.value = asSentence(error);
  }
}

/** Look whether another tab of this browser has logged in, after the session had ended. */
export async function beginAgain(): Promise<void> {
  hangUp(); // the stream of the session that ended tries no more
  await begin();
}

/** Exchange a one-time code for a cookie. Throws the server's refusal. */
export async function login(code: string): Promise<void> {
  await send("POST", "login", { code });
  await beginAgain();
}

/** End the session, here and at the server. */
export async function logout(): Promise<void> {
  hangUp();
  try {
    await send("POST", "logout");
  } finally {
    me.value = null;
    signedOut.value = true;
  }
}

/** Whether the person may do what needs this scope; admins may do everything. */
export function may(scope: Scope): boolean {
  const scopes = me.value?.scopes ?? [];
  return scopes.includes(scope) || scopes.includes("admin");
}
