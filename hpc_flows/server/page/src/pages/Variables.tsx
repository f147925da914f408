export function Variables() {
  return null;
}
