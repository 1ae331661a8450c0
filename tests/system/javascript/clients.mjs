// Runs clients in JavaScript at the same time. The input is a list of {client, url, key, model, prompt,
// timeout}. Each result is one line of JSON: {prompt, bytes} or {prompt, error}.
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { GoogleGenAI } from "@google/genai";
import { generateImage } from "ai";
import OpenAI from "openai";

globalThis.AI_SDK_LOG_WARNINGS = false;

const bytes = (base64) => Buffer.from(base64, "base64").length;
const ofVercel = async (model, prompt) =>
  (await generateImage({ model, prompt })).image.uint8Array.length;

// Google's client repeats answers with some statuses, and no lost connection. Programs do that.
async function again(call, tries = 3) {
  try {
    return await call();
  } catch (error) {
    if (tries === 1 || error.message !== "fetch failed") throw error;
    return again(call, tries - 1);
  }
}

const clients = {
  async openai({ url, key, model, prompt, timeout }) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, timeout });
    const answer = await client.images.generate({ model, prompt });
    return bytes(answer.data[0].b64_json);
  },
  async "openai stream"({ url, key, model, prompt, timeout }) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, timeout });
    let length = 0;
    for await (const event of await client.images.generate({ model, prompt, stream: true })) {
      if (event.type === "image_generation.completed") length = bytes(event.b64_json);
    }
    return length;
  },
  async genai({ url, key, model, prompt, timeout }) {
    const httpOptions = { baseUrl: url, timeout, retryOptions: { attempts: 3 } };
    const client = new GoogleGenAI({ apiKey: key, httpOptions });
    const answer = await again(() => client.models.generateContent({ model, contents: prompt }));
    return bytes(answer.candidates[0].content.parts[0].inlineData.data);
  },
  "ai openai": ({ url, key, model, prompt }) =>
    ofVercel(createOpenAI({ baseURL: `${url}/v1`, apiKey: key }).image(model), prompt),
  "ai openai-compatible": ({ url, key, model, prompt }) =>
    ofVercel(
      createOpenAICompatible({ name: "here", baseURL: `${url}/v1`, apiKey: key }).imageModel(model),
      prompt,
    ),
  "ai google": ({ url, key, model, prompt }) =>
    ofVercel(
      createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey: key }).image(model),
      prompt,
    ),
};

async function run(call) {
  try {
    return { prompt: call.prompt, bytes: await clients[call.client](call) };
  } catch (error) {
    return { prompt: call.prompt, error: `${error.name}: ${error.message}` };
  }
}

const calls = JSON.parse(process.argv[2]);
for (const result of await Promise.all(calls.map(run))) console.log(JSON.stringify(result));
