export function Clusters() {
  return null;
}
