import { Component, type ComponentChildren, h } from "preact";

/** A component that is drawn again only when one of its properties is another one. */
export function memo<P extends object>(view: (props: P) => ComponentChildren) {
  return class extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      const now = this.props as Record<string, unknown>;
      return Object.entries(next).some(([name, value]) => now[name] !== value);
    }

    override render(): ComponentChildren {
      return h(view as (props: object) => never, this.props);
    }
  };
}
