// Uses the page as a person would, in a Chromium without a window, and prints what it shows.
//
//     node try.mjs CHROMIUM PAGE REGISTRY TOKEN TEMPLATE_TYPE
//
// When it watches, it prints `watching`; then it waits for a change.
import { chromium } from "playwright-core";

const [executablePath, page, registry, token, type] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const tab = await browser.newPage();
  tab.on("console", (message) => console.error(message.text()));
  await tab.goto(page);
  for (const [name, value] of Object.entries({ registry, token, type })) await tab.fill(`[name=${name}]`, value);
  await tab.click("button");
  await tab.waitForFunction(() => document.querySelector("#rendered").textContent !== "");
  console.log(await tab.textContent("#rendered"));
  await tab.waitForSelector("#changes[data-watched]", { state: "attached" });
  console.log("watching");
  console.log(await tab.textContent("#changes li"));
} finally {
  await browser.close();
}
