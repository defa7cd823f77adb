/** What the peer of the request tests does with a message, by the u16 after the id. */
export const Command = {
  ignore: 0,
  reply: 1,
  late: 2,
  othersFirst: 3,
  othersThenLeave: 4,
  inPieces: 5,
  replyWithFd: 6,
  badLength: 7,
  flood: 8,
} as const;
