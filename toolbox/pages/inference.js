// Sorts the cards. Without this script they stand in the order of their files.
const list = document.getElementById("cards");
const cards = [...list.children];
const choice = document.getElementById("sort");
const turn = document.getElementById("turn");
let falling = false;

const places = new Map(cards.map((card, place) => [card, place]));
const shares = new Map(cards.map((card) => [
  card, new Map(card.dataset.shares.split(" ").map((part) => part.split(":"))),
]));

function value(card) {
  if (choice.value === "file") return places.get(card);
  if (choice.value in card.dataset) return Number(card.dataset[choice.value]);
  return Number(shares.get(card).get(choice.value) ?? 0);
}

function sort() {
  const sign = falling ? -1 : 1;
  turn.textContent = falling ? "↓ highest first" : "↑ lowest first";
  cards.sort((one, other) => sign * (value(one) - value(other)) || places.get(one) - places.get(other));
  list.append(...cards);
}

choice.addEventListener("change", () => {
  falling = !(choice.value in { file: 0, confidence: 0 });
  sort();
});
turn.addEventListener("click", () => {
  falling = !falling;
  sort();
});
document.getElementById("sorting").hidden = false;
