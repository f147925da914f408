/** Where the page begins. */

import { render } from "preact";
import "./style/tokens.css";
import "./style/base.css";
import "./style/shell.css";
import "./style/pages.css";
import { App } from "./app";

const root = document.getElementById("page");
if (root === null) throw new Error("index.html has no element with the id `page`");
render(<App />, root);
